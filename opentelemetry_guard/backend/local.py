"""Reading back what is stored as JSON, for tools and tests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Depends, Query
from pydantic import BeforeValidator
from starlette.responses import Response

from .askers import Askers
from .dashboard.visitors import Visitors
from .openapi import answers
from .storage.incident_search import IncidentSearch
from .storage.store import Agent, Store, StoredRow


def in_digits(text: object) -> object:
    """Refuse what Python reads as a whole number and the document does not: ``1.0``, ``1_0``, ``٣``."""
    if isinstance(text, str) and not (text.isascii() and text.isdigit()):
        raise ValueError("write it in digits")
    return text


Limit = Annotated[int, Query(ge=1, le=10_000), BeforeValidator(in_digits)]
After = Annotated[int | None, Query(ge=0, le=2**63 - 1), BeforeValidator(in_digits)]


def local_router(store: Store, visitors: Visitors, askers: Askers) -> APIRouter:
    """Return the routes that need no key: they are for whoever may see the dashboard."""
    router = APIRouter(dependencies=[Depends(visitors.required_for_data)], responses=answers(401, 403, 422, 503))

    @router.get("/local/events")
    def events(limit: Limit = 100, after: After = None, event_type: str | None = None) -> Response:
        """List events, newest last; page on with `after`, the id of the last one seen."""
        return _listed("events", store.events(limit, after, event_type), "row", "event")

    @router.get("/local/metrics")
    def metrics(limit: Limit = 100, after: After = None, metric_type: str | None = None) -> Response:
        """List metrics, newest last; page on with `after`, the id of the last one seen."""
        return _listed("metrics", store.metrics(limit, after, metric_type), "row", "metric")

    @router.get("/local/agents")
    def agents() -> Response:
        """List the installations that reported a status."""
        return _listed("agents", store.agents(), "status", "status")

    @router.get("/local/enforcement")
    def enforcement(project: str = "default") -> Response:
        """Say how many installations ask for a project's rules, and the seconds within which all have asked again."""
        return _json(asdict(askers.enforcement(project, time.time())))

    @router.get("/local/incidents")
    def incidents(limit: Limit = 100, state: Literal["open", "acknowledged", "closed"] | None = None) -> Response:
        """List incidents, the one with the newest activity first."""
        return _json({"incidents": [asdict(one) for one in IncidentSearch(store.database).latest(state or "", limit)]})

    @router.get("/local/summary")
    def summary() -> Response:
        """Count what is stored, by type."""
        return _json(asdict(store.summary()))

    return router


def _listed(title: str, records: Sequence[StoredRow | Agent], column: str, name: str) -> Response:
    """Answer with records whose `column` is JSON already, and is to be called `name`."""
    entries = [asdict(record) for record in records]
    for entry in entries:
        entry[name] = orjson.Fragment(entry.pop(column))
    return _json({title: entries})


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
