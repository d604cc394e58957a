"""Whom the application has recognised: what its spans and its scope say of a request's user."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import isawaitable

from opentelemetry import trace

from .following import FollowedRequest, Scope

USER_ATTRIBUTES = ("enduser.id", "user.id")
"""Span attributes in which an application says who its user is; the second is the semantic conventions' newer name."""


def user_of(request: FollowedRequest) -> str | None:
    """Return whom the application has recognised: on its span, or in the scope as Starlette's authentication does."""
    server, current = request.server_span, trace.get_current_span()
    user = _span_user(server)
    if user is None and current is not server:
        user = _span_user(current)
    return _scope_user(request.scope) if user is None else user


def _span_user(span: trace.Span) -> str | None:
    try:
        # The SDK's attributes take a lock for each look, and a name that they lack costs them an exception.
        held = span._attributes._dict  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001  as in `_said`
        held = None
    if type(held) is not dict:
        held = _said(span, "attributes")  # a span that isn't recorded has none
        if not isinstance(held, Mapping):
            return None
    for name in USER_ATTRIBUTES:
        if (value := held.get(name)) is not None:
            return _text(value)
    return None


def _scope_user(scope: Scope) -> str | None:
    user = scope.get("user")
    if user is None or _said(user, "is_authenticated") is not True:
        return None
    identity = _said(user, "identity")
    if identity is None or callable(identity) or isawaitable(identity):
        identity = _said(user, "display_name")  # Starlette's SimpleUser has a name only
        return identity if isinstance(identity, str) else None
    return _text(identity)


def _said(owner: object, name: str) -> object:
    """Return what an application's object says of itself, None where it doesn't or can't.

    It may be of any class: a user that lacks the property, has it from Starlette's `BaseUser`, which raises, or asks a
    database session that is closed.
    """
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001  one that can't say is the same as one that doesn't
        return None


def _text(identity: object) -> str | None:
    try:
        return str(identity)
    except Exception:  # noqa: BLE001  as in `_said`
        return None
