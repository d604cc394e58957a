"""A process that fills a queue, or drains it, and says how much memory that took.

``python -m faults.filler fill 1000000`` or ``python -m faults.filler drain 600`` (seconds);
the destination comes from the environment. It prints one JSON document.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.events.codec import Row, complete, to_row
from opentelemetry_guard.settings.delivery import GuardConfig

from .emitter import key_of

ROWS = 500
"""Events in one batch: what the SDK's batch processor exports at once."""


def memory(name: str) -> int:
    """Return a figure of this process in bytes: ``VmRSS`` (resident now) or ``VmHWM`` (the most that ever was)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def row(serial: int) -> Row:
    """Return an event like those of an application."""
    return complete(
        to_row(
            {
                "idempotency_key": key_of(1, serial),
                "event_type": "rate_limited",
                "ip_address": f"192.0.{serial >> 8 & 255}.{serial & 255}",
                "action_taken": "request_blocked",
                "reason": f"limit exceeded, request {serial}",
                "endpoint": "/api/orders",
                "method": "GET",
                "status_code": 429,
                "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
                "metadata": {"serial": serial, "emitted": time.time()},
            }
        )[0],
        serial + 1,
        serial + 1,
    )


def fill(delivery: Delivery, events: int) -> None:
    """Accept `events` events while nobody takes them."""
    for first in range(0, events, ROWS):
        delivery.submit("events", [row(serial) for serial in range(first, min(first + ROWS, events))])


def drain(delivery: Delivery, seconds: float) -> None:
    """Wait until the queue is empty, for at most `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if delivery.stats().drained:
            return
        time.sleep(0.1)


def main(order: str, amount: float) -> None:
    """Do one of the two and report."""
    start = memory("VmRSS")
    began = time.monotonic()
    delivery = Delivery(GuardConfig.resolve())
    delivery.start()
    fill(delivery, int(amount)) if order == "fill" else drain(delivery, amount)
    seconds = time.monotonic() - began
    stats = delivery.stats()
    ledger = stats.ledger["events"]
    delivery.close(0.0)
    print(
        json.dumps(
            {
                "start": start,
                "above": memory("VmHWM") - start,
                "seconds": seconds,
                "accepted": ledger.accepted,
                "delivered": ledger.delivered,
                "waiting": ledger.queued + ledger.in_flight,
                "dropped": ledger.dropped,
                "bytes": stats.bytes,
                "depth": stats.depth,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
