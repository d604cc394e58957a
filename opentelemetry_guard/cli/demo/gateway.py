"""A small FastAPI service that fastapi-guard guards (extra ``fastapi-guard``); nothing in it is about telemetry.

Run it with::

    opentelemetry-guard run -- uvicorn opentelemetry_guard.cli.demo.gateway:app --no-proxy-headers
"""

from __future__ import annotations

import logging

from fastapi import FastAPI
from guard import SecurityConfig, SecurityMiddleware

from .countries import Countries

# What fastapi-guard finds is on the dashboard; its lines would hide what the demonstration says.
logging.disable(logging.WARNING)

app = FastAPI(title="Gateway")
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
