"""An application that fastapi-guard guards; nothing in it is about telemetry."""

from fastapi import FastAPI
from guard import SecurityConfig, SecurityMiddleware

app = FastAPI()
app.add_middleware(
    SecurityMiddleware,
    config=SecurityConfig(
        trusted_proxies=["127.0.0.1"],
        enable_redis=False,
        rate_limit=100,
    ),
)


@app.get("/search")
def search(q: str = "") -> dict[str, str]:
    """Search; fastapi-guard refuses attacks before they come here."""
    return {"query": q}
