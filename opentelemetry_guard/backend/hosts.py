"""Loopback only: which names mean this machine, and the guard at the door that asks for one of them."""

from __future__ import annotations

import ipaddress
import re

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_HOST_HEADER = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:@/]+))(?::\d{1,5})?")


def is_loopback(host: str) -> bool:
    """Whether a bare host name or address can only mean this machine."""
    name = host.lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def names_loopback(host_header: str) -> bool:
    """Whether a `Host` header, with or without a port, names this machine."""
    match = _HOST_HEADER.fullmatch(host_header)
    return match is not None and is_loopback(match["v6"] or match["name"])


class LoopbackHostsOnly:
    """ASGI middleware that answers 403 to a `Host` that is not a loopback name.

    A page on the web can point its own name at 127.0.0.1 and have the browser
    ask this server (DNS rebinding); the name in `Host` gives it away.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Stand before `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or refuse it."""
        if scope["type"] == "http" and not names_loopback(Headers(scope=scope).get("host", "")):
            detail = "The Host header must be a loopback name: use http://127.0.0.1 or http://localhost."
            await JSONResponse({"success": False, "detail": detail}, status_code=403)(scope, receive, send)
            return
        await self._app(scope, receive, send)
