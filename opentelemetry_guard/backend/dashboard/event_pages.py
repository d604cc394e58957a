"""The pages of events: the list, what comes to it while it is looked at, one event, and the exports."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timezone
from itertools import islice

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from ...events.names import name_of
from ..clock import Clock
from ..filters import ANY_TIME, BETWEEN, CONTENTS, FILTERS, STRETCHES, TIMES, asked_for, read_contents, read_filter
from ..refusal import Refusal
from ..storage.contents import page_of
from ..storage.histogram import histogram
from ..storage.looks import COMPARED_ROWS
from ..storage.paging import Cursor
from ..storage.search import EventFilter
from .chart import histogram_of
from .export import EXPORTS
from .pages import Pages, address, clock_of, paging
from .saved_filters import LONGEST_NAME, saved_filters
from .views import duration, event_detail, event_view

PAGE_EVENTS = 50
"""Lines of the table of events."""

_OF_EXPORTS = frozenset({"project", "format", *FILTERS})

_LIVE_REACH = 5_000
"""How many of the newest rows one look for new events goes through."""


def events_router(pages: Pages) -> APIRouter:
    """Return the routes of events."""
    router, search, link = APIRouter(prefix="/events"), pages.search, pages.settings.trace_link

    @router.get("")
    def show(request: Request) -> Response:
        """List events, newest first."""
        return _list(pages, request)

    @router.get("/rows")
    def arrived(request: Request) -> Response:
        """Give the lines that came after the id `after`: 204 when there are none."""
        project, query = pages.project(request), request.query_params
        known, newest = read_id(query.get("after", "")), search.newest_id()
        if known is None:
            raise Refusal(422, "after must be the id of an event.")
        if newest == known:
            return Response(status_code=204)
        if newest < known:
            # The newest rows were deleted, or the file is another one: begin with what there is.
            known = 0
        wanted = read_filter(query, project, time.time())
        contents = read_contents(query)
        most = _LIVE_REACH if contents else PAGE_EVENTS
        found = contents.among(search.arrived(wanted, max(known, newest - _LIVE_REACH), most))
        lines = pages.fragment(
            request, "rows.html", project, events=[event_view(one, link) for one in islice(found, PAGE_EVENTS)]
        )
        return HTMLResponse(lines, headers={"X-Newest-Id": str(newest)})

    @router.get("/export")
    def export(request: Request, format: str = "csv") -> Response:
        """Give all events that match as a file."""
        return _export(pages, request, format)

    @router.get("/{event_id}")
    def detail(request: Request, event_id: str) -> Response:
        """Show everything that is known of one event."""
        project, number = pages.project(request), read_id(event_id)
        found = None if number is None else search.one(project, number)
        if found is None:
            raise Refusal(404, "There is no such event in this project: it may be older than what is kept.")
        event = event_detail(found, link)
        return pages.page(request, "event.html", here="events", project=project, event=event, linked=link is not None)

    return router


def _export(pages: Pages, request: Request, format: str) -> Response:
    written = EXPORTS.get(format)
    if written is None:
        raise Refusal(404, f"Events are exported with format={', '.join(EXPORTS)}.")
    if unknown := sorted(request.query_params.keys() - _OF_EXPORTS):
        # A filter with a slip in its name would hand out everything.
        raise Refusal(422, f"{unknown[0]!r} is no parameter; allowed are {', '.join(sorted(_OF_EXPORTS))}.")
    asked = asked_for(request.query_params)
    contents = read_contents(asked)
    wanted = contents.narrowed(read_filter(asked, pages.project(request), time.time()))
    name = f"events-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}.{written.suffix}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(
        written.pieces(contents.among(pages.search.everything(wanted))),
        media_type=written.media_type,
        headers=headers,
    )


def _list(pages: Pages, request: Request) -> Response:
    project, query, search = pages.project(request), request.query_params, pages.search
    before = read_cursor(query)
    # Read before the page: an event that comes meanwhile is shown twice to the script, which knows it by its id.
    newest = search.newest_id()
    filters = asked_for(query)
    wanted = read_filter(filters, project, time.time())
    page = page_of(search, wanted, read_contents(filters), before, PAGE_EVENTS)
    asked = {"project": project, **filters}
    saved = saved_filters(request)
    return pages.page(
        request,
        "events.html",
        here="events",
        project=project,
        events=[event_view(found, pages.settings.trace_link) for found in page.found],
        **paging(request, asked, before, page),
        most_rows=COMPARED_ROWS,
        newest=newest,
        **_over_time(pages, request, wanted, asked),
        filters={**dict.fromkeys(FILTERS, ""), **filters, **_shown_time(filters, wanted, clock_of(request))},
        asked=asked,
        filtered=bool(filters),
        saved=[(one.name, address("", project=project, **one.asked), one.asked == filters) for one in saved],
        called=next((one.name for one in saved if one.asked == filters), None),
        longest_name=LONGEST_NAME,
        event_types=[(kind, _labelled(kind)) for kind in search.event_types(project)],
        actions=[(action, action) for action in search.actions(project)],
        services=[(service, service) for service in search.services(project)],
        exports=[(name, written.label) for name, written in EXPORTS.items()],
        stretches=[*((name, label) for name, (label, _) in STRETCHES.items()), (BETWEEN, "Between two times")],
    )


def _over_time(pages: Pages, request: Request, wanted: EventFilter, asked: Mapping[str, str]) -> dict[str, object]:
    """Return the histogram over the list; none where rows would have to be read for it."""
    counted = None
    if not asked.keys() & set(CONTENTS):
        counted = histogram(pages.store.database, wanted, time.time())
    if counted is None:
        return {"chart": None}
    clock = clock_of(request)
    begin, end = counted.bars[0][0], counted.bars[-1][0] + counted.seconds
    return {
        "chart": histogram_of(counted, clock),
        "counted": counted.events,
        "chart_cut_short": counted.cut_short,
        "chart_says": f"{clock.short(begin, True)} to {clock.short(end, True)}, by {duration(counted.seconds)}",
        "narrowed": address("", **{name: text for name, text in asked.items() if name not in TIMES}),
    }


def _shown_time(filters: Mapping[str, str], wanted: EventFilter, clock: Clock) -> dict[str, str]:
    """Return what the form says of the time: beginning and end are in the visitor's zone."""
    if not filters.keys() & {"since", "until"}:
        return {"within": filters.get("within", ANY_TIME)}
    times = {"since": wanted.since, "until": wanted.until}
    return {"within": BETWEEN} | {name: "" if moment is None else clock.field(moment) for name, moment in times.items()}


def _labelled(kind: str) -> str:
    name = name_of(kind)
    return kind if name == kind else f"{name} ({kind})"


def read_id(text: str) -> int | None:
    """Return the number that a path or query names; None where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def read_cursor(query: Mapping[str, str]) -> Cursor | None:
    """Return where in a list a page begins; None for the beginning.

    Raises:
        Refusal: 422 where it is no place.
    """
    text = query.get("before")
    if text is None:
        return None
    try:
        return Cursor.parse(text)
    except ValueError:
        raise Refusal(422, "This is no place in the list: begin with the newest.") from None
