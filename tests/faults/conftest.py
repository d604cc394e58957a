"""The backend, and the stores that every fault is tried on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import FaultyBackend, faulty_backend
from support.redis import redis_server


@pytest.fixture(params=["sqlite", "redis"])
def queue_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store, for as many processes as like to share it."""
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path}/queue/guard.db"
        return
    with redis_server() as server:
        yield server.url


@pytest.fixture
def backend() -> Iterator[FaultyBackend]:
    """A backend in a process of its own, which is up."""
    with faulty_backend() as running:
        yield running


@pytest.fixture
def environment(backend: FaultyBackend, queue_url: str) -> dict[str, str]:
    """The settings of an application that sends to `backend` through the store."""
    return {**backend.environment, "OTEL_EXPORTER_GUARD_QUEUE_URL": queue_url}
