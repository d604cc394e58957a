"""The backend as one ASGI application."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..version import __version__
from .askers import Askers
from .dashboard.alert_pages import alerts_router
from .dashboard.event_pages import events_router
from .dashboard.incident_pages import incidents_router
from .dashboard.pages import STATIC_DIRECTORY, Pages, agents_router, overview_router, sign_in_router
from .dashboard.rules_pages import rules_router
from .dashboard.saved_filters import saved_filters_router
from .dashboard.visitors import SignInNeeded, Visitors
from .dashboard.zone_pages import zone_router
from .feed import feed_router
from .hosts import LoopbackHostsOnly
from .ingest.connections import BodiesInTime
from .ingest.contract import contract_router
from .ingest.desk import Desk
from .ingest.grants import Grants
from .ingest.handout import handout_router
from .ingest.intake import Intake
from .ingest.otlp import media_of
from .ingest.otlp import status as otlp_status
from .ingest.otlp_routes import otlp_router
from .ingest.streams import Streams
from .local import local_router
from .openapi import describe
from .refusal import Refusal
from .settings import BackendSettings
from .storage.askers import StoredAskers
from .storage.database import DATABASE_ERRORS, reason_of
from .storage.store import Store

logger = logging.getLogger(__name__)

_OTLP = "/v1/"
_FOR_PROGRAMS = ("/api/", "/local/", "/openapi.json", _OTLP)
"""Paths whose errors are JSON; elsewhere a person reads them."""


SECURITY_HEADERS = {
    # Everything comes from this server's own files: no inline script or style, nothing from elsewhere.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # With no-referrer a browser hides the origin of a form too, and the check of it would fail.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
"""Sent with every answer."""


class SecurityHeaders:
    """ASGI middleware that adds `SECURITY_HEADERS`, and keeps answers out of caches that said nothing about it."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add to the answer's headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                # The script and the style sheet may be kept, and asked for by their tag.
                headers.setdefault("Cache-Control", "no-cache" if scope["path"].startswith("/static/") else "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


_PAGES = (
    overview_router,
    events_router,
    incidents_router,
    alerts_router,
    agents_router,
    rules_router,
    zone_router,
    saved_filters_router,
)
"""The routes of the pages that are for who may see what is stored."""

_ASK_AGAIN = (429, 503)
"""Statuses that always say when to ask again: after a second, where the refusal doesn't say it."""


def create_app(store: Store, settings: BackendSettings) -> FastAPI:
    """Return the application that receives into `store` and reads back from it. Closing the store is the caller's."""
    # The documentation pages of FastAPI load their scripts from elsewhere.
    app = FastAPI(title="Guard backend", version=__version__, docs_url=None, redoc_url=None)
    visitors = Visitors(settings.password, store.database)
    grants = Grants(store, settings)
    desk, intake = Desk(grants, settings), Intake(store, settings.window_seconds)
    askers = Askers(StoredAskers(store.database))
    pages = Pages(store, settings, visitors, askers)
    app.include_router(contract_router(store, settings, grants, desk, intake))
    app.state.streams = streams = Streams(store)
    app.include_router(handout_router(store, settings, grants, askers, streams))
    app.include_router(otlp_router(desk, intake))
    app.include_router(feed_router(pages.search, grants))
    app.include_router(local_router(store, visitors, askers))
    app.include_router(sign_in_router(pages), include_in_schema=False)
    for inside in _PAGES:
        app.include_router(inside(pages), include_in_schema=False, dependencies=[Depends(visitors.required_for_page)])
    app.mount("/static", StaticFiles(directory=STATIC_DIRECTORY), name="static")
    describe(app)
    app.add_middleware(BodiesInTime)
    if settings.password is None:
        app.add_middleware(LoopbackHostsOnly)
    app.add_middleware(SecurityHeaders)

    refuse = partial(_refuse, pages)

    @app.exception_handler(Refusal)
    def refused(request: Request, refusal: Refusal) -> Response:
        return refuse(request, refusal.status, refusal.detail, refusal.headers)

    @app.exception_handler(HTTPException)
    def not_routed(request: Request, error: HTTPException) -> Response:
        detail = "There is nothing at this address." if error.status_code == 404 else error.detail
        return refuse(request, error.status_code, detail, error.headers)

    @app.exception_handler(RequestValidationError)
    def bad_parameter(request: Request, error: RequestValidationError) -> Response:
        told = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors())
        return refuse(request, 422, told)

    @app.exception_handler(SignInNeeded)
    def sign_in_first(_: Request, needed: SignInNeeded) -> Response:
        return RedirectResponse(needed.location, 303)

    @app.exception_handler(ClientDisconnect)
    def sender_gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)

    def store_unavailable(request: Request, error: Exception) -> Response:
        logger.error("The database %s failed: %s. Senders keep their rows and try again.", store.name, reason_of(error))
        if request.url.path.startswith(_FOR_PROGRAMS):
            return refuse(request, 503, "The backend cannot store now.")
        # The usual page would ask the database again.
        return PlainTextResponse("The database cannot be read now: see the backend's log.\n", 503, {"Retry-After": "1"})

    for failure in DATABASE_ERRORS:
        app.add_exception_handler(failure, store_unavailable)
    return app


def _refuse(
    pages: Pages, request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer in the words of whoever asks: a sender of OTLP, another program, or a person."""
    if status in _ASK_AGAIN:
        headers = {"Retry-After": "1", **(headers or {})}
    path = request.url.path
    if path.startswith(_OTLP):
        media = media_of(request.headers)
        return Response(otlp_status(media, detail), status, headers, media)
    if path.startswith(_FOR_PROGRAMS):
        return JSONResponse({"success": False, "detail": detail}, status_code=status, headers=headers)
    return pages.refused(request, status, detail, headers)
