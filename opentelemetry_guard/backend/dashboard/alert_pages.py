"""The pages of alerts: the list with rules and channels, one alert, and what somebody makes of it."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from ..alerts.file import Alerts
from ..refusal import Refusal
from ..storage.alerts import StoredAlerts
from ..storage.incidents import STATES
from .alert_views import alert_view, channel_views, rule_views
from .event_pages import read_cursor, read_id
from .incident_pages import choice_of, labelled, wanted_state
from .pages import Pages, address, paging

PAGE_ALERTS = 50
"""Lines of the list of alerts."""


def alerts_router(pages: Pages) -> APIRouter:
    """Return the routes of alerts."""
    router, stored = APIRouter(prefix="/alerts"), StoredAlerts(pages.store.database)

    @router.get("")
    def show(request: Request) -> Response:
        """List alerts, the latest first, with the rules and channels that there are."""
        project, query, now = pages.project(request), request.query_params, time.time()
        state, before = choice_of(query, "state", STATES), read_cursor(query)
        asked = {"project": project, **({"state": state} if state else {})}
        page = stored.page(project, state, before, PAGE_ALERTS)
        said = pages.settings.alerts or Alerts(rules=())
        return pages.page(
            request,
            "alerts.html",
            here="alerts",
            project=project,
            alerts=[alert_view(alert, now) for alert in page.found],
            **paging(request, asked, before, page),
            filters={"state": state},
            states=labelled(STATES),
            rules=rule_views(said, project),
            channels=channel_views(said, stored.health(now), now),
        )

    @router.get("/{alert_id}")
    def detail(request: Request, alert_id: str) -> Response:
        """Show one alert."""
        project = pages.project(request)
        number = read_id(alert_id)
        alert = None if number is None else stored.one(project, number)
        if alert is None:
            raise _missing()
        shown = alert_view(alert, time.time())
        return pages.page(request, "alert.html", here="alerts", project=project, alert=shown)

    @router.post("/{alert_id}/state")
    async def change(request: Request, alert_id: str) -> Response:
        """Give an alert another state."""
        fields = await pages.visitors.form(request)

        def work() -> Response:
            project, state = pages.project(request), wanted_state(fields)
            number = read_id(alert_id)
            if number is None or not stored.set_state(project, number, state, time.time()):
                raise _missing()
            return RedirectResponse(address(f"/alerts/{number}", project=project), 303)

        return await run_in_threadpool(work)

    return router


def _missing() -> Refusal:
    return Refusal(404, "There is no such alert in this project: it may have been over for a month.")
