"""The choice of the time zone that the pages write times in: a cookie of the visitor's own browser."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from ..clock import Clock, zones
from ..refusal import Refusal
from .pages import ZONE_COOKIE, Pages, clock_of, own_path

_YEAR_SECONDS = 365 * 86_400


def zone_router(pages: Pages) -> APIRouter:
    """Return the routes of the time zone."""
    router = APIRouter(prefix="/time-zone")

    @router.get("")
    def ask(request: Request) -> Response:
        """Offer every zone that this machine knows."""
        following = own_path(request.query_params.get("next"))
        chosen = clock_of(request).name
        offered = zones() if chosen in zones() else (*zones(), chosen)
        project = pages.project(request)
        return pages.page(
            request, "time_zone.html", here="", project=project, following=following, chosen=chosen, zones=offered
        )

    @router.post("")
    async def choose(request: Request) -> Response:
        """Keep the choice, and go back to the page that it was made on."""
        fields = await pages.visitors.form(request, of_viewers=True)
        try:
            clock = Clock(fields.get("zone", ""))
        except ValueError:
            raise Refusal(422, "This is no time zone that the backend knows: choose one from the list.") from None
        response = RedirectResponse(own_path(fields.get("next")), 303)
        response.set_cookie(ZONE_COOKIE, clock.name, max_age=_YEAR_SECONDS, httponly=True, samesite="lax")
        return response

    return router
