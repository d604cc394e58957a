"""Events in the order of their arrival, for a program that follows them with a project's API key."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BeforeValidator
from starlette.responses import Response

from .filters import FILTERS, read_contents, read_filter
from .ingest.grants import Grants
from .local import After, in_digits
from .openapi import answers, by_key
from .refusal import Refusal
from .storage.contents import Contents, page_of
from .storage.search import EventFilter, EventSearch, FoundEvent

MOST = 500
"""Events of one answer."""

_PARAMETERS = frozenset({"after", "last", *FILTERS})

Last = Annotated[int, Query(ge=0, le=MOST), BeforeValidator(in_digits)]


def feed_router(search: EventSearch, grants: Grants) -> APIRouter:
    """Return the route of the feed. It wants a key, and shows that key's project alone."""
    router = APIRouter(responses=answers(401, 403, 422, 429, 503))

    def page(wanted: EventFilter, contents: Contents, after: int | None, last: int) -> dict[str, Any]:
        if after is None:
            # Read first: what comes meanwhile is told next time, and nobody misses it.
            newest = search.newest_id()
            found = page_of(search, wanted, contents, None, last).found[::-1] if last else []
            return {"events": _told(found), "next": newest, "more": False}
        found, reached, more = search.following(wanted, after, MOST)
        return {"events": _told(contents.among(found)), "next": reached, "more": more}

    @router.get("/local/feed", **by_key())
    async def feed(request: Request, after: After = None, last: Last = 20) -> Response:
        """List the latest events, or those that came after the one with the id `after`; `next` is where to go on.

        Where `more` is true, there is more to be had at once. It is filtered as the dashboard's list is, by
        event_type, address, endpoint, action, service, user_agent, trace, correlation_key, within, since, until and
        zone.
        """
        if unknown := sorted(request.query_params.keys() - _PARAMETERS):
            # A filter with a slip in its name would show everything.
            raise Refusal(422, f"{unknown[0]!r} is no parameter; allowed are {', '.join(sorted(_PARAMETERS))}.")
        wanted = read_filter(request.query_params, await grants.project_of(request, looking=True), time.time())
        told = await run_in_threadpool(page, wanted, read_contents(request.query_params), after, last)
        return Response(orjson.dumps(told), media_type="application/json")

    return router


def _told(found: Iterable[FoundEvent]) -> list[dict[str, Any]]:
    return [{"id": one.id, "event": orjson.Fragment(one.row)} for one in found]
