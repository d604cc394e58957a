"""Reading back what is stored as JSON, for tools and tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from .dashboard.visitors import Visitors
from .openapi import answers
from .storage.store import Store, StoredRow

Limit = Annotated[int, Query(ge=1, le=10_000)]
After = Annotated[int | None, Query(ge=0, le=2**63 - 1)]


def local_router(store: Store, visitors: Visitors) -> APIRouter:
    """Return the routes that need no key: they are for whoever may see the dashboard."""
    router = APIRouter(dependencies=[Depends(visitors.required_for_data)], responses=answers(401, 403, 422, 503))

    @router.get("/local/events")
    def events(limit: Limit = 100, after: After = None, event_type: str | None = None) -> Response:
        """List events, newest last; page on with `after`, the id of the last one seen."""
        return _json({"events": _entries(store.events(limit, after, event_type), "event")})

    @router.get("/local/metrics")
    def metrics(limit: Limit = 100, after: After = None, metric_type: str | None = None) -> Response:
        """List metrics, newest last; page on with `after`, the id of the last one seen."""
        return _json({"metrics": _entries(store.metrics(limit, after, metric_type), "metric")})

    @router.get("/local/agents")
    def agents() -> Response:
        """List the installations that reported a status."""
        entries = [
            {
                "project_id": agent.project_id,
                "install_id": agent.install_id,
                "user_agent": agent.user_agent,
                "last_seen": agent.last_seen,
                "status": orjson.Fragment(agent.status),
            }
            for agent in store.agents()
        ]
        return _json({"agents": entries})

    @router.get("/local/summary")
    def summary() -> Response:
        """Count what is stored, by type."""
        counts = store.summary()
        return _json({"events": counts.events, "metrics": counts.metrics, "agents": counts.agents})

    return router


def _entries(rows: Sequence[StoredRow], name: str) -> list[dict[str, object]]:
    return [
        {
            "id": row.id,
            "project_id": row.project_id,
            "batch_id": row.batch_id,
            "received_at": row.received_at,
            name: orjson.Fragment(row.row),
        }
        for row in rows
    ]


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
