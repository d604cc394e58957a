"""Whether this process delivers its security events, for monitoring and readiness checks.

::

    from fastapi import Depends, FastAPI
    from opentelemetry_guard.delivery.health import healthz

    app = FastAPI()
    app.add_api_route("/healthz", healthz)

    @app.get("/ready", dependencies=[Depends(healthz)])
    def ready(): ...

The endpoint answers 200, or 503 while a delivery has failed, with the status
of every delivery of the process. An outage of the backend is no failure for
its first quarter of an hour: rows wait, and the application goes on.

It is not for a liveness probe: a restart brings neither an API key nor the
backend back, and would end a service that serves its users.
"""

from __future__ import annotations

from typing import Any

from ..models import AgentStatus
from . import registry
from .stats import DeliveryStats

__all__ = ["delivery_stats", "health_check", "healthz", "statuses"]


def statuses() -> list[AgentStatus]:
    """Return the status of every delivery of this process; none where no Guard exporter is in use.

    A wrong variable that has switched Guard export off counts as a delivery that has failed.
    """
    off = [AgentStatus(status="failed", uptime=0.0, errors=[problem]) for problem in registry.problems()]
    return [*(delivery.status() for delivery in registry.everyone()), *off]


def delivery_stats() -> list[DeliveryStats]:
    """Return one reading of every delivery of this process: ledger, depth, routes; none where no exporter has one.

    An exporter of one's own has the same in `exporter.delivery`, but is a user of the delivery until its shutdown.

    .. versionadded:: 1.0
    """
    return [delivery.stats() for delivery in registry.everyone()]


def health_check() -> bool:
    """Whether no delivery of this process has failed (`AgentStatus.status`), and none is switched off by mistake.

    .. versionadded:: 1.0
    """
    return not any(status.status == "failed" for status in statuses())


def healthz() -> dict[str, Any]:
    """Answer a health check: a FastAPI endpoint, and a dependency as well.

    Returns:
        ``{"status": "healthy", "deliveries": [...]}``, where the first is the worst status there is.

    Raises:
        HTTPException: with status 503 and the same as its detail, while a delivery has failed.

    .. versionadded:: 1.0
    """
    found = statuses()
    worst = max((status.status for status in found), key=_ORDER.index, default="healthy")
    answer = {"status": worst, "deliveries": [status.model_dump(mode="json") for status in found]}
    if worst == "failed":
        # Imported here: who has this module needn't have FastAPI.
        from fastapi import HTTPException

        raise HTTPException(503, answer)
    return answer


_ORDER = ["healthy", "degraded", "failed"]
"""States from good to bad."""
