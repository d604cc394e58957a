"""Alerts of a backend in a process of its own, which ends and starts while its receiver is away."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

from sqlalchemy import URL
from support.backend import RunningBackend, running_backend
from support.ports import free_port
from support.raw_server import RawServer, answer, raw_server
from support.redis import eventually
from support.sending import event, send

SECONDS = 120.0
"""When waiting is given up."""


def alerts_file(directory: Path, port: int) -> str:
    events = {"when": "events", "threshold": 1, "window": "5m"}
    hook = {"type": "webhook", "url": f"http://127.0.0.1:{port}/", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    rules = [{"name": kind, "event_type": kind, **events} for kind in ("first", "second")]
    file = directory / "alerts.json"
    file.write_text(json.dumps({"every": 1, "rules": rules, "channels": {"ops": hook}}))
    return str(file)


def happen(backend: RunningBackend, kind: str) -> None:
    one = event(event_type=kind, timestamp=datetime.now(timezone.utc).isoformat())
    send(backend, one)


def shown(backend: RunningBackend, text: str) -> None:
    eventually(
        lambda: text in backend.http.get(f"{backend.url}/alerts", timeout=20).text,
        seconds=SECONDS,
        told=lambda: f"on the page of alerts that says {text!r}",
    )


def told(receiver: RawServer, count: int) -> list[str]:
    eventually(
        lambda: len(receiver.requests) >= count,
        seconds=SECONDS,
        told=lambda: f"but {len(receiver.requests)} of {count} notifications",
    )
    return [json.loads(request.partition(b"\r\n\r\n")[2])["data"]["rule"] for request in receiver.requests]


def test_after_a_restart_what_nobody_took_is_sent_and_nothing_twice(tmp_path: Path, database: Path | URL) -> None:
    port = free_port()
    with running_backend(db=database, alerts=alerts_file(tmp_path, port)) as backend:
        happen(backend, "first")
        shown(backend, "Connection refused")
        backend.stop()
        with raw_server(answer(b"HTTP/1.1 204 No Content\r\n\r\n"), port=port) as receiver:
            backend.start()
            assert told(receiver, 1) == ["first"]
            shown(backend, "works")
            backend.restart()
            happen(backend, "second")
            assert told(receiver, 2) == ["first", "second"]
        assert "whsec_" not in backend.stderr() + backend.stdout()
