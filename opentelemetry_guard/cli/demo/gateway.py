"""A small FastAPI service that fastapi-guard guards (extra ``fastapi-guard``); nothing in it is about telemetry.

Run it with::

    opentelemetry-guard run -- uvicorn opentelemetry_guard.cli.demo.gateway:app --no-proxy-headers
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from guard import SecurityConfig, SecurityMiddleware

from .countries import Countries


@asynccontextmanager
async def _quietly(_: FastAPI) -> AsyncIterator[None]:
    """Serve without fastapi-guard's lines, which would hide the demonstration's: what it finds is on the dashboard."""
    logging.getLogger("guard_core").setLevel(logging.ERROR)
    yield


app = FastAPI(title="Gateway", lifespan=_quietly)
app.add_middleware(
    SecurityMiddleware,
    config=SecurityConfig(
        trusted_proxies=("127.0.0.1",),
        enable_redis=False,
        geo_ip_handler=Countries(),
        blocked_countries=frozenset({"AQ"}),
    ),
)


@app.get("/catalogue")
def catalogue(q: str = "") -> dict[str, str]:
    """Search the catalogue."""
    return {"query": q}
