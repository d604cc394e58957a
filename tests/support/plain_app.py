"""A plain FastAPI application that enforces dynamic rules, behind a proxy on the same machine."""

from __future__ import annotations

from fastapi import FastAPI

from opentelemetry_guard import GuardRulesMiddleware

app = FastAPI()
app.add_middleware(GuardRulesMiddleware, trusted_proxies="127.0.0.1")


@app.get("/items/{number}")
def item(number: int) -> int:
    """Return the number."""
    return number
