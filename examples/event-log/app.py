"""A FastAPI application that knows nothing of security events."""

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

app = FastAPI()


class Credentials(BaseModel):
    """What a user signs in with."""

    user: str
    password: str


@app.post("/login")
def login(credentials: Credentials) -> dict[str, str]:
    """Sign a user in; there is one user."""
    if (credentials.user, credentials.password) != ("ada", "lovelace"):
        raise HTTPException(401, "wrong user or password")
    return {"welcome": credentials.user}


@app.get("/items/{number}")
def item(number: int) -> dict[str, int]:
    """Return an item."""
    return {"item": number}
