"""Filters of the list of events that a visitor has given names: links, kept in a cookie of their own browser.

The address of a list says all of its filter, so a name and an address are all there is to keep, and nobody else's
browser is concerned.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from ..filters import FILTERS, asked_for
from ..refusal import Refusal
from .pages import Pages, address

COOKIE = "guard_filters"
"""The cookie that keeps them."""

LONGEST_NAME = 60
"""Characters of a name."""

_YEAR_SECONDS = 365 * 86_400
_MOST = 12
_MOST_BYTES = 3_500
"""Browsers keep cookies of 4,096 bytes, their names and attributes included."""


@dataclass(frozen=True, slots=True)
class SavedFilter:
    """A filter by its name: `asked` are the parameters of the list."""

    name: str
    asked: Mapping[str, str]


def saved_filters(request: Request) -> list[SavedFilter]:
    """Return what the visitor has saved; nothing where the cookie is none of ours."""
    try:
        kept = orjson.loads(base64.urlsafe_b64decode(request.cookies.get(COOKIE, "")))
        return [
            SavedFilter(str(name)[:LONGEST_NAME], asked_for({str(key): str(text) for key, text in asked.items()}))
            for name, asked in kept[:_MOST]
        ]
    except (binascii.Error, ValueError, TypeError, AttributeError):
        # Whatever is in a cookie, the page is shown.
        return []


def saved_filters_router(pages: Pages) -> APIRouter:
    """Return the routes that keep a filter and forget it; both lead back to the list."""
    router = APIRouter(prefix="/events/saved")

    @router.post("")
    async def save(request: Request) -> Response:
        """Keep a filter by a name; one of the same name is replaced."""
        fields = await pages.visitors.form(request, of_viewers=True)
        name = " ".join(fields.get("name", "").split())
        if not name or len(name) > LONGEST_NAME:
            raise Refusal(422, f"A filter is saved by a name of 1 to {LONGEST_NAME} characters.")
        saved = SavedFilter(name, asked_for({key: fields.get(key, "") for key in FILTERS}))
        return _kept(request, [*_others(request, name), saved], saved.asked)

    @router.post("/forget")
    async def forget(request: Request) -> Response:
        """Keep a filter no longer."""
        fields = await pages.visitors.form(request, of_viewers=True)
        return _kept(request, _others(request, fields.get("name", "")), {})

    return router


def _others(request: Request, name: str) -> list[SavedFilter]:
    return [one for one in saved_filters(request) if one.name != name]


def _kept(request: Request, filters: Sequence[SavedFilter], shown: Mapping[str, str]) -> Response:
    text = base64.urlsafe_b64encode(orjson.dumps([[one.name, one.asked] for one in filters])).decode()
    if len(filters) > _MOST or len(text) > _MOST_BYTES:
        raise Refusal(
            422, f"A browser keeps {_MOST} filters, or fewer that are long: forget one first, or bookmark this."
        )
    project = request.query_params.get("project")
    response = RedirectResponse(address("/events", **({"project": project} if project else {}), **shown), 303)
    response.set_cookie(COOKIE, text, max_age=_YEAR_SECONDS, httponly=True, samesite="lax")
    return response
