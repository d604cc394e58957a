"""The backend as one ASGI application."""

from __future__ import annotations

import logging
import sqlite3

from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from ..version import __version__
from .contract import contract_router
from .hosts import LoopbackHostsOnly
from .local import local_router
from .refusal import Refusal
from .settings import BackendSettings
from .store import Store

logger = logging.getLogger(__name__)


def create_app(store: Store, settings: BackendSettings) -> FastAPI:
    """Return the application that receives into `store` and reads back from it. Closing the store is the caller's."""
    # The documentation pages of FastAPI load their scripts from elsewhere.
    app = FastAPI(title="Guard backend", version=__version__, docs_url=None, redoc_url=None)
    app.include_router(contract_router(store, settings))
    app.include_router(local_router(store))
    app.add_middleware(LoopbackHostsOnly)

    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> Response:
        return JSONResponse({"success": False, "detail": refusal.detail}, status_code=refusal.status)

    @app.exception_handler(ClientDisconnect)
    async def sender_gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)

    @app.exception_handler(sqlite3.OperationalError)
    async def store_unavailable(_: Request, error: sqlite3.OperationalError) -> Response:
        logger.error("The database %s failed: %s. Senders keep their rows and try again.", store.path, error)
        return JSONResponse({"success": False, "detail": "The backend cannot store now."}, status_code=503)

    return app
