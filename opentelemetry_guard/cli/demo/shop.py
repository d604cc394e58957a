"""A small FastAPI shop with security checks of its own, as many services have them.

It knows nothing of the Guard backend: it calls `emit_event` and
`record_metric`, and OpenTelemetry's environment variables decide where that
goes. `GuardRulesMiddleware` refuses whom the backend's rules ban. Run it with::

    opentelemetry-guard run -- uvicorn opentelemetry_guard.cli.demo.shop:app
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Awaitable, Callable
from urllib.parse import unquote_plus

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ... import GuardRulesMiddleware, emit_event, record_metric
from .countries import country_of

REQUESTS_PER_WINDOW = 20
WINDOW_SECONDS = 1.0
INJECTION = re.compile(r"(?i)union\s+select|'\s*or\s+'?1'?\s*=|<script|\.\./")

app = FastAPI(title="Shop")
_recent: dict[str, deque[float]] = {}


def _event(request: Request, event_type: str, action: str, reason: str, status_code: int, **metadata: object) -> None:
    address = request.client.host if request.client else ""
    emit_event(
        event_type=event_type,
        ip_address=address,
        country=country_of(address),
        user_agent=request.headers.get("user-agent"),
        action_taken=action,
        reason=reason,
        endpoint=request.url.path,
        method=request.method,
        status_code=status_code,
        metadata=metadata,
    )


@app.middleware("http")
async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse bursts and injections, and say so."""
    address = request.client.host if request.client else ""
    now = time.monotonic()
    recent = _recent.setdefault(address, deque())
    while recent and now - recent[0] > WINDOW_SECONDS:
        recent.popleft()
    recent.append(now)
    if len(recent) > REQUESTS_PER_WINDOW:
        _event(request, "rate_limited", "request_blocked", "too many requests", 429, requests=len(recent))
        return JSONResponse({"detail": "too many requests"}, status_code=429)
    if found := INJECTION.search(unquote_plus(request.url.query)):
        record_metric(metric_type="threat_level", value=0.9, endpoint=request.url.path)
        _event(
            request, "penetration_attempt", "request_blocked", "injection in the query", 403, pattern=found.re.pattern
        )
        return JSONResponse({"detail": "forbidden"}, status_code=403)
    return await call_next(request)


class Login(BaseModel):
    """A user's name and password."""

    user: str
    password: str


@app.post("/login")
def login(credentials: Login, request: Request) -> JSONResponse:
    """Log a user in; there is one user."""
    if (credentials.user, credentials.password) == ("ada", "lovelace"):
        return JSONResponse({"welcome": credentials.user})
    _event(request, "authentication_failed", "logged", "wrong password", 401, user=credentials.user)
    return JSONResponse({"detail": "wrong user or password"}, status_code=401)


@app.get("/items/{number}")
def item(number: int) -> dict[str, int]:
    """Return an item."""
    return {"item": number}


@app.get("/search")
def search(q: str = "") -> dict[str, str]:
    """Search for items."""
    return {"query": q}


# Added last, so that it is outermost: whoever is banned gets no further.
app.add_middleware(GuardRulesMiddleware, country_of=country_of)
