"""A small application that is guarded by fastapi-guard and knows nothing of us.

``GUARDED_APP_MIDDLEWARE`` is ``classic`` (default), ``asgi``, or ``forgotten``
(constructed around the application and never added);
``GUARDED_APP_OTEL=true`` switches on guard-core's own OpenTelemetry output;
``GUARDED_APP_REDIS`` is the URL of a Redis for guard-core.
"""

from __future__ import annotations

import os

from fastapi import Depends, FastAPI, WebSocket
from guard import PureASGISecurityMiddleware, SecurityConfig, SecurityDecorator, SecurityMiddleware, guard_websocket

config = SecurityConfig(
    trusted_proxies=["127.0.0.1"],
    enable_redis="GUARDED_APP_REDIS" in os.environ,
    redis_url=os.environ.get("GUARDED_APP_REDIS"),
    blacklist=["203.0.113.66"],
    blocked_user_agents=["evilbot"],
    rate_limit=1000,
    auto_ban_threshold=3,
    auto_ban_duration=60,
    enable_otel=os.environ.get("GUARDED_APP_OTEL") == "true",
)
app = FastAPI()
decorator = SecurityDecorator(config)
app.state.guard_decorator = decorator

_MIDDLEWARE = os.environ.get("GUARDED_APP_MIDDLEWARE", "classic")
if _MIDDLEWARE == "forgotten":
    forgotten = SecurityMiddleware(app, config=config)
else:
    app.add_middleware(PureASGISecurityMiddleware if _MIDDLEWARE == "asgi" else SecurityMiddleware, config=config)


@app.get("/items/{number}")
def item(number: int) -> dict[str, int]:
    return {"item": number}


@app.get("/scarce")
@decorator.rate_limit(requests=2, window=60)
def scarce() -> dict[str, str]:
    return {"scarce": "yes"}


@app.get("/private")
@decorator.require_auth(type="bearer")
def private() -> dict[str, str]:
    return {"private": "yes"}


@app.websocket("/socket")
async def socket(websocket: WebSocket, _: None = Depends(guard_websocket)) -> None:
    await websocket.accept()
    await websocket.close()
