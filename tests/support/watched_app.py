"""A plain FastAPI application on which each kind of conspicuous behaviour can be shown; it says whose login it was."""

from __future__ import annotations

from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel

from opentelemetry_guard import report_login

PASSWORD = "correct horse"

FIRST_MISSING = 1_000_000
"""The number of the first item that there isn't."""

app = FastAPI(title="Watched")


class Login(BaseModel):
    """What the login form sends."""

    user: str
    password: str


@app.get("/")
async def home() -> dict[str, str]:
    return {"hello": "there"}


@app.post("/login")
async def login(attempt: Login) -> dict[str, str]:
    is_right = attempt.password == PASSWORD
    report_login(success=is_right, user=attempt.user)
    if not is_right:
        raise HTTPException(401)
    return {"user": attempt.user}


@app.post("/signin")
async def sign_in(attempt: Login) -> dict[str, bool]:
    return {"ok": attempt.password == PASSWORD}


@app.get("/items/{number}")
async def item(number: int) -> dict[str, int]:
    if number >= FIRST_MISSING:
        raise HTTPException(404)
    return {"item": number}


@app.post("/coupons")
async def coupon() -> None:
    raise HTTPException(409)


@app.get("/account")
async def account(x_api_key: str = Header("")) -> None:
    raise HTTPException(403)
