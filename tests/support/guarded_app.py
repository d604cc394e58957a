"""A small application that is guarded by fastapi-guard and knows nothing of us.

``GUARDED_APP_MIDDLEWARE`` is ``classic`` (default), ``asgi``, or ``forgotten``
(constructed around the application and never added);
``GUARDED_APP_LIFESPAN=true`` warms the middleware up at startup;
``GUARDED_APP_OTEL=true`` switches on guard-core's own OpenTelemetry output;
``GUARDED_APP_REDIS`` is the URL of a Redis for guard-core;
``GUARDED_APP_CONFIG`` is a JSON object of more settings of its `SecurityConfig`.

fastapi-guard 5.2 has neither the pure ASGI middleware nor the helpers for
lifespans and WebSockets; there is no socket there.
"""

from __future__ import annotations

import json
import os
from typing import Any

import guard
from fastapi import Depends, FastAPI, Request, WebSocket

config = guard.SecurityConfig(
    **{
        "trusted_proxies": ["127.0.0.1"],
        "enable_redis": "GUARDED_APP_REDIS" in os.environ,
        "redis_url": os.environ.get("GUARDED_APP_REDIS"),
        "blacklist": ["203.0.113.66"],
        "blocked_user_agents": ["evilbot"],
        "rate_limit": 1000,
        "auto_ban_threshold": 3,
        "auto_ban_duration": 60,
        "enable_otel": os.environ.get("GUARDED_APP_OTEL") == "true",
        **json.loads(os.environ.get("GUARDED_APP_CONFIG", "{}")),
    }
)
options: dict[str, Any] = {}
if os.environ.get("GUARDED_APP_LIFESPAN") == "true":
    from guard.lifespan import guard_lifespan

    options["lifespan"] = guard_lifespan
app = FastAPI(**options)
decorator = guard.SecurityDecorator(config)
app.state.guard_decorator = decorator

_MIDDLEWARE = os.environ.get("GUARDED_APP_MIDDLEWARE", "classic")
if _MIDDLEWARE == "forgotten":
    forgotten = guard.SecurityMiddleware(app, config=config)
elif _MIDDLEWARE == "asgi":
    app.add_middleware(guard.PureASGISecurityMiddleware, config=config)
else:
    app.add_middleware(guard.SecurityMiddleware, config=config)


@app.get("/items/{number}")
def item(number: int) -> dict[str, int]:
    return {"item": number}


@app.post("/items")
async def add(request: Request) -> dict[str, int]:
    return {"bytes": len(await request.body())}


@app.get("/scarce")
@decorator.rate_limit(requests=2, window=60)
def scarce() -> dict[str, str]:
    return {"scarce": "yes"}


@app.get("/private")
@decorator.require_auth(type="bearer")
def private() -> dict[str, str]:
    return {"private": "yes"}


@app.post("/contact")
@decorator.honeypot_detection(["website"])
async def contact() -> dict[str, str]:
    return {"contact": "yes"}


if hasattr(guard, "make_guard_websocket"):

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, _: None = Depends(guard.make_guard_websocket(config))) -> None:
        await websocket.accept()
        await websocket.close()
