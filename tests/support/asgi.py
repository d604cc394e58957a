"""Requests straight through the ASGI interface: no server, no network, thousands in a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

App = Callable[[Any, Any, Any], Awaitable[None]]
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


async def fetch(
    app: App,
    path: str,
    *,
    method: str = "GET",
    address: str | None = "203.0.113.7",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    kind: str = "http",
) -> int:
    """Send one request and return its status; an accepted WebSocket is 101, a refused one 403.

    Args:
        app: the application.
        path: as on the wire, with or without a query.
        method: the HTTP method.
        address: the peer's; None for a server that doesn't know it.
        headers: the User-Agent is a browser's unless given.
        body: the whole body.
        kind: ``http`` or ``websocket``.
    """
    raw, _, query = path.partition("?")
    given = {"host": "shop.example", "user-agent": BROWSER, **{n.lower(): v for n, v in (headers or {}).items()}}
    if body:
        given = {"content-type": "application/json", "content-length": str(len(body)), **given}
    scope: dict[str, Any] = {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "path": unquote(raw),
        "raw_path": raw.encode("latin-1"),
        "query_string": query.encode(),
        "root_path": "",
        "scheme": "http" if kind == "http" else "ws",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        "client": (address, 50000) if address else None,
        "server": ("127.0.0.1", 80),
    }
    if kind == "http":
        scope["method"] = method
    else:
        scope["subprotocols"] = []
        scope["extensions"] = {"websocket.http.response": {}}
    answers: list[int] = []
    incoming = iter(
        [{"type": "http.request", "body": body, "more_body": False}]
        if kind == "http"
        else [{"type": "websocket.connect"}]
    )
    gone = {"type": "http.disconnect"} if kind == "http" else {"type": "websocket.disconnect", "code": 1000}

    async def receive() -> dict[str, Any]:
        return next(incoming, gone)

    async def send(message: Any) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            answers.append(message["status"])
        elif message["type"] in ("websocket.accept", "websocket.close"):
            answers.append(101 if message["type"] == "websocket.accept" else 403)

    await app(scope, receive, send)
    return answers[0]


def get(app: App, path: str, **more: Any) -> int:
    """Send one request on a loop of its own."""
    return asyncio.run(fetch(app, path, **more))
