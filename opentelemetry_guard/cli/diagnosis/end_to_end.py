"""Whether an event that is handed to a delivery really arrives."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from ...delivery.delivery import Delivery
from ...events.codec import complete, to_row
from ...queue.base import QueueOptions
from ...queue.memory import MemoryQueue
from ...settings.delivery import PREFIX, GuardConfig
from .finding import Finding, ok, problem

_SECONDS = 10.0
"""How long the event may take, whatever the settings allow."""
EVENT_TYPE = "doctor_test"
"""The type of the event that is sent."""


def check_delivery(config: GuardConfig) -> Iterator[Finding]:
    """Send one event through a delivery of its own, and say what became of it."""
    delivery = Delivery(replace(config, status_interval=0.0), MemoryQueue(QueueOptions(f"doctor-{config.destination}")))
    row, _ = to_row({"event_type": EVENT_TYPE, "action_taken": "logged", "reason": "opentelemetry-guard doctor"})
    began = time.monotonic()
    delivery.start()
    try:
        delivery.submit("events", [complete(row)])
        delivery.flush(min(config.timeout, _SECONDS) + 1.0)
        stats = delivery.stats()
        letters = delivery.queue.dead_letters(1)
    finally:
        delivery.queue.purge()
        delivery.close(1.0)
    if stats.ledger["events"].delivered:
        yield ok("test event", f"was accepted after {(time.monotonic() - began) * 1000:.0f} ms")
    elif letters:
        yield problem(
            "test event",
            f"is refused for good: {letters[0].status} {letters[0].reason[:200]}",
            f"check that {PREFIX}ENDPOINT is a Guard backend's base URL, and that it has the same "
            f"{PREFIX}SIGNING_SECRET and {PREFIX}ENCRYPTION_KEY",
        )
    else:
        remedy = f"check that a Guard backend answers at {PREFIX}ENDPOINT, and see its log"
        why = stats.routes["events"].last_error or "there was no answer in time"
        yield problem("test event", f"was not accepted: {why}", remedy)
