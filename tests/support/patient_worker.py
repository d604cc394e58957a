"""uvicorn's worker for gunicorn with an end to its patience, as docs/deployment.md has it."""

from __future__ import annotations

from typing import Any, ClassVar

from uvicorn.workers import UvicornWorker


class Worker(UvicornWorker):
    """Waits for open connections for ten seconds; by itself uvicorn waits for as long as a client goes on sending."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"timeout_graceful_shutdown": 10}
