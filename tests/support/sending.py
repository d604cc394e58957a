"""Rows and batches by hand, and sending them to a backend without any exporter."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import requests

from .backend import RunningBackend


def event(**fields: Any) -> dict[str, Any]:
    """Return a valid event with a new key."""
    return {
        "idempotency_key": str(uuid4()),
        "timestamp": "2026-01-02T03:04:05.678901Z",
        "event_type": "ip_blocked",
        **fields,
    }


def metric(**fields: Any) -> dict[str, Any]:
    """Return a valid metric."""
    return {"timestamp": "2026-01-02T03:04:05Z", "metric_type": "request_count", "value": 3.0, **fields}


def batch(**fields: Any) -> dict[str, Any]:
    """Return a valid batch with a new id."""
    return {"project_id": "test-project", "batch_id": str(uuid4()), **fields}


def post(backend: RunningBackend, path: str, body: bytes | dict[str, Any], **headers: str) -> requests.Response:
    """Send `body`; a header's name is spelled with underscores."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return backend.http.post(backend.url + path, data=data, headers={**backend.headers, **named}, timeout=20)


def send(backend: RunningBackend, *events: dict[str, Any]) -> None:
    """Have the backend store events of its project."""
    body = {**batch(events=list(events)), "project_id": backend.project}
    assert post(backend, "/api/v1/events", body).status_code == 200
