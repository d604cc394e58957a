"""A guarded application that is careless with secrets: it emits, sets and raises them. It knows nothing of privacy."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from guard import SecurityConfig, SecurityMiddleware

from opentelemetry_guard import emit_event, record_metric

NEW_SESSION = "setcookie-85xQz"

app = FastAPI()
app.add_middleware(
    SecurityMiddleware,
    config=SecurityConfig(
        trusted_proxies=["127.0.0.1"],
        enable_redis=False,
        blocked_user_agents=["evilbot"],
        rate_limit=10_000,
        auto_ban_threshold=10_000,
    ),
)


@app.post("/login")
async def login(request: Request) -> Response:
    """Refuse everybody, and tell everything."""
    body = await request.body()
    emit_event(
        event_type="authentication_failed",
        ip_address=request.client.host if request.client else "",
        user_agent=request.headers.get("user-agent"),
        action_taken="logged",
        reason=f"login failed with {body.decode()} and Cookie: {request.headers.get('cookie')}",
        endpoint=str(request.url),
        method=request.method,
        metadata={
            "body": body,
            "headers": request.scope["headers"],
            "mapping": dict(request.headers),
            "query": request.url.query,
        },
        raw_headers=[[name, value] for name, value in request.headers.items()],
    )
    record_metric(
        metric_type="threat_level",
        value=0.5,
        endpoint=str(request.url),
        tags={"authorization": request.headers.get("authorization"), "card": request.headers.get("x-card")},
    )
    return Response("no", 401, {"Set-Cookie": f"session={NEW_SESSION}; HttpOnly"})


@app.get("/keys/{key}")
def key(key: str) -> dict[str, str]:
    """Do nothing with an API key."""
    return {}


@app.get("/fail")
def fail(token: str) -> None:
    """Raise an error that quotes a secret."""
    raise RuntimeError(f"can't connect with token={token}")
