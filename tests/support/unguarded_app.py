"""A plain FastAPI application: no guard, no security telemetry, nothing of ours."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from fastapi import FastAPI, Header, HTTPException, Query, Response
from pydantic import BaseModel

PASSWORD = "correct horse"
SCARCE = 5
"""How often a client may ask for `/scarce`."""

app = FastAPI(title="Plain")
_asked: Counter[str] = Counter()


class Login(BaseModel):
    """What the login form sends."""

    user: str
    password: str


@app.get("/")
async def home() -> dict[str, str]:
    return {"hello": "there"}


@app.get("/health")
async def health() -> dict[str, bool]:
    return {"ok": True}


@app.post("/login")
async def login(attempt: Login) -> dict[str, str]:
    if attempt.password != PASSWORD:
        raise HTTPException(401)
    return {"user": attempt.user}


@app.get("/items/{number}")
async def item(number: int) -> dict[str, int]:
    if number >= 1000:
        raise HTTPException(404)
    return {"item": number}


@app.get("/search")
async def search(q: Annotated[str, Query(min_length=2)], page: int = 1) -> dict[str, object]:
    return {"q": q, "page": page}


@app.get("/api/feed")
async def feed(authorization: Annotated[str, Header()] = "") -> dict[str, int]:
    if authorization != "Bearer fresh":
        raise HTTPException(401)
    return {"news": 0}


@app.get("/admin/reports")
async def reports() -> None:
    raise HTTPException(403)


@app.get("/scarce")
async def scarce(x_forwarded_for: Annotated[str, Header()] = "") -> dict[str, str]:
    _asked[x_forwarded_for] += 1
    if _asked[x_forwarded_for] > SCARCE:
        raise HTTPException(429)
    return {"scarce": "thing"}


@app.get("/broken")
async def broken() -> Response:
    return Response(status_code=503)
