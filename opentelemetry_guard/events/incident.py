"""What security events the request under way has produced, for whoever would derive one from its answer.

A fact that two sides need and neither owns: `Emitter` notes an event here,
the instrumentation that follows the request reads it. Outside of a followed
request a note goes nowhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar, Token
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SCOPE_KEY = "opentelemetry_guard.events"
"""Key of a request's scope: the `Notes` of it."""

MAX_NOTES = 100
"""Events of one request that are remembered."""

Notes = list[Mapping[str, object]]
"""The rows of a request's events, oldest first."""

# The tasks and threads of one request have copies of the context that share the list; appending is atomic.
_notes: ContextVar[Notes | None] = ContextVar("opentelemetry_guard_incident", default=None)


def begin() -> tuple[Notes, Token[Notes | None]]:
    """Start to remember the current context's events; return them, and what `end` wants."""
    notes: Notes = []
    return notes, _notes.set(notes)


def begin_of(scope: MutableMapping[str, Any]) -> tuple[Notes, Token[Notes | None] | None]:
    """Return the events that are remembered of the request with this ASGI scope, and None; where none are, `begin`."""
    notes: Notes | None = scope.get(_SCOPE_KEY)
    if notes is not None:
        return notes, None
    notes, token = begin()
    scope[_SCOPE_KEY] = notes
    return notes, token


def of(scope: Mapping[str, Any]) -> Notes:
    """Return the events of the request with this ASGI scope, none where they aren't remembered."""
    notes: Notes = scope.get(_SCOPE_KEY) or []
    return notes


def end(token: Token[Notes | None]) -> None:
    """Remember no more."""
    _notes.reset(token)


def carried(work: Callable[P, T]) -> Callable[P, T]:
    """Return `work` for a thread that has no copy of the context: its events are noted here, too."""
    notes = _notes.get()
    if notes is None:
        return work

    @functools.wraps(work, updated=())
    def carrying(*args: P.args, **kwargs: P.kwargs) -> T:
        token = _notes.set(notes)
        try:
            return work(*args, **kwargs)
        finally:
            _notes.reset(token)

    return carrying


def note(row: Mapping[str, object]) -> None:
    """Remember that an event was emitted."""
    notes = _notes.get()
    if notes is not None and len(notes) < MAX_NOTES:
        notes.append(row)


_OFFENCE = "offence"
_ATTACK = "penetration_attempt"


def note_offence(reason: str) -> None:
    """Remember that the request goes on with what its client is conspicuous for, whether or not an event tells of it.

    Args:
        reason: why it is an offence toward an automatic ban, in words.
    """
    note({"event_type": "behavioral_violation", "action_taken": "logged", _OFFENCE: reason})


def offence(events: Notes, *, by_rule: str | None = None) -> str | None:
    """Return why a request with these events is an offence toward an automatic ban, None where it is none.

    An attack is one, and what was noted as one.

    Args:
        events: of the request.
        by_rule: the rule whose attacks are offences; None for those of everybody.
    """
    for row in events:
        if row.get("event_type") == _ATTACK and by_rule in (None, row.get("rule_type")):
            return str(row.get("reason") or _ATTACK)
        if reason := row.get(_OFFENCE):
            return str(reason)
    return None
