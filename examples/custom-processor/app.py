"""An application that decides what of its events leaves the process, and adds to them."""

from fastapi import FastAPI, HTTPException

from opentelemetry_guard import SecurityEvent, privacy

TEAMS = {"/payments": "payments", "/admin": "platform"}


def with_team(event: SecurityEvent) -> SecurityEvent | None:
    """Name the team that owns the endpoint; leave out what health checks cause."""
    if event.endpoint == "/health":
        return None
    event.metadata["team"] = TEAMS.get(event.endpoint or "", "unknown")
    return event


privacy.configure(processors=[with_team])
app = FastAPI()


@app.get("/payments")
@app.get("/health")
def refused() -> None:
    """Refuse everybody."""
    raise HTTPException(403, "not for you")
