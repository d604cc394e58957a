"""The pages of incidents: the list, one of them with its events, and what somebody makes of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from ...events.known import BANDS
from ..refusal import Refusal
from ..storage.incident_search import MOST_AROUND, IncidentSearch
from ..storage.incidents import STATES, Incident
from .event_pages import read_cursor, read_id
from .incident_views import incident_detail, incident_view
from .pages import Pages, address, paging
from .views import event_view

PAGE_INCIDENTS = 50
"""Lines of the list of incidents."""


def incidents_router(pages: Pages) -> APIRouter:
    """Return the routes of incidents."""
    router, search = APIRouter(prefix="/incidents"), IncidentSearch(pages.store.database)

    @router.get("")
    def show(request: Request) -> Response:
        """List incidents, the one with the newest activity first."""
        return _list(pages, search, request)

    @router.get("/{incident_id}")
    def detail(request: Request, incident_id: str) -> Response:
        """Show one incident with the latest of its events."""
        project, now = pages.project(request), time.time()
        incident = _one(search, project, incident_id)
        # Retention may have taken some of them.
        found = [event for number in incident.latest if (event := pages.search.one(project, number))]
        found.sort(key=lambda event: (event.occurred_at, event.id), reverse=True)
        return pages.page(
            request,
            "incident.html",
            here="incidents",
            project=project,
            incident=incident_detail(incident, pages.store.rules(project).ip_blacklist, now),
            events=[event_view(event, pages.settings.trace_link) for event in found],
            campaigns=[incident_view(one, now) for one in search.campaigns_around(incident)],
            clients=[incident_view(one, now) for one in search.clients_around(incident)],
            most_clients=MOST_AROUND,
        )

    @router.post("/{incident_id}/state")
    async def change(request: Request, incident_id: str) -> Response:
        """Give an incident another state."""
        fields = await pages.visitors.form(request)

        def work() -> Response:
            project, state = pages.project(request), wanted_state(fields)
            incident = _one(search, project, incident_id)
            search.set_state(project, incident.id, state, time.time())
            return RedirectResponse(address(f"/incidents/{incident.id}", project=project), 303)

        return await run_in_threadpool(work)

    return router


def _list(pages: Pages, search: IncidentSearch, request: Request) -> Response:
    project, query, now = pages.project(request), request.query_params, time.time()
    filters = {"state": choice_of(query, "state", STATES), "severity": choice_of(query, "severity", tuple(BANDS))}
    asked = {"project": project, **{name: value for name, value in filters.items() if value}}
    before = read_cursor(query)
    page = search.page(project, filters["state"], filters["severity"], before, PAGE_INCIDENTS)
    return pages.page(
        request,
        "incidents.html",
        here="incidents",
        project=project,
        incidents=[incident_view(incident, now) for incident in page.found],
        **paging(request, asked, before, page),
        filters=filters,
        filtered=any(filters.values()),
        states=labelled(STATES),
        severities=labelled(BANDS),
    )


def labelled(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return values of a choice with what people read."""
    return [(name, name.capitalize()) for name in names]


def _one(search: IncidentSearch, project: str, text: str) -> Incident:
    number = read_id(text)
    incident = None if number is None else search.one(project, number)
    if incident is None:
        raise Refusal(404, "There is no such incident in this project: its events may be older than what is kept.")
    return incident


def wanted_state(fields: Mapping[str, str]) -> str:
    """Return the state that a form wants for an incident, or for an alert.

    Raises:
        Refusal: 422 where it says none that there is.
    """
    state = choice_of(fields, "state", STATES)
    if not state:
        raise Refusal(422, "The form doesn't say which state it is to have.")
    return state


def choice_of(given: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """Return what is chosen, "" for nothing.

    Raises:
        Refusal: 422 for what is none of the choices.
    """
    value = given.get(name, "")
    if value and value not in choices:
        raise Refusal(422, f"{name} must be one of {', '.join(choices)}.")
    return value
