"""A queue that a service which is gone has left behind, and the command line's hand on it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from opentelemetry_guard.delivery.encoder import Encoder
from opentelemetry_guard.delivery.envelope import Envelope
from opentelemetry_guard.events.codec import complete, to_row
from opentelemetry_guard.queue.base import DeadLetter, QueueOptions
from opentelemetry_guard.queue.url import open_queue
from opentelemetry_guard.settings.delivery import GuardConfig

from .commands import run

PROJECT = "test-project"


@dataclass
class Left:
    """A queue that a service which is gone has left behind: two waiting batches and a dead letter."""

    home: Path
    url: str
    variables: dict[str, str]
    waiting: list[str]
    dead: str

    def command(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        result = run(self.home, "queue", *arguments, **self.variables, **variables)
        return result.returncode, result.stdout, result.stderr

    def json(self, *arguments: str) -> object:
        code, out, err = self.command(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)


def leave(home: Path, url: str, variables: dict[str, str], envelope: Envelope | None = None) -> Left:
    config = GuardConfig.resolve(variables)
    options = QueueOptions(config.destination)
    default = f"sqlite://{home}/.local/state/opentelemetry-guard/queue.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("XDG_STATE_HOME", raising=False)
        queue = open_queue(url or default, options)
        encoder = Encoder(PROJECT, "gzip", envelope)
        batches = []
        for number in range(3):
            row, _ = to_row({"event_type": "custom_check", "reason": f"number {number}"})
            batches += encoder.encode("events", [complete(row)], created_at=time.time() - 10 + number)
        refused, *waiting = batches
        queue.append(refused)
        (lease,) = queue.lease("events", time.time())
        queue.replace([lease.batch.batch_id], [], [DeadLetter(lease.batch, 422, "no such field", time.time())])
        for batch in waiting:
            queue.append(batch)
        queue.close()
    if url:
        variables = {**variables, "OTEL_EXPORTER_GUARD_QUEUE_URL": url}
    return Left(home, url, variables, [batch.batch_id for batch in reversed(waiting)], refused.batch_id)
