"""A small FastAPI service without a line about security or telemetry: what is seen of it is seen from outside.

Run it with::

    opentelemetry-guard run --enforce -- uvicorn opentelemetry_guard.cli.demo.accounts:app
"""

from __future__ import annotations

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

app = FastAPI(title="Accounts")


class Login(BaseModel):
    """A user's name and password."""

    user: str
    password: str


@app.post("/login")
def login(credentials: Login) -> dict[str, str]:
    """Log a user in; there is one user."""
    if (credentials.user, credentials.password) != ("ada", "lovelace"):
        raise HTTPException(401)
    return {"welcome": credentials.user}


@app.get("/profiles/{user}")
def profile(user: str) -> dict[str, str]:
    """Return a user's profile; there is one user."""
    if user != "ada":
        raise HTTPException(404)
    return {"user": user}


@app.get("/reports")
def reports() -> None:
    """Return nothing: who may see the reports is not among the users."""
    raise HTTPException(403)
