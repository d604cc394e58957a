"""A worker that accepts events of mixed sizes and sends them: ``python -m faults.platform_worker '{"events": 1000}'``.

The destination comes from the environment. It prints one JSON document when all of its events are accepted, and
one when nothing is left to send; see `Plan`.
"""

from __future__ import annotations

import json
import random
import sys
import time
from dataclasses import dataclass

from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.events.codec import Row, complete, to_row
from opentelemetry_guard.settings.delivery import GuardConfig

from .emitter import key_of

ROWS = 500
"""Events in one batch: what the SDK's batch processor exports at once."""
SIZES = ((0.9, 100, 1_000), (0.09, 1_000, 10_000), (0.01, 10_000, 60_000))
"""Shares of the events, and the bytes of their texts, from and to: about a kilobyte in the mean."""
OUTSIDE = 0.005
"""Share of the events whose timestamps are outside of the backend's window."""
MOST_WAITING = 48 * 1024 * 1024
"""Bytes that wait in the queue at most: a worker then accepts more slowly."""


@dataclass(frozen=True)
class Plan:
    """What to do: accept `events` as number `worker`; send all within `drain` seconds, 0 sends none."""

    events: int
    worker: int = 1
    drain: float = 0.0


def row(plan: Plan, serial: int, chance: random.Random, texts: str) -> Row:
    """Return an event of a size, and at a time, that chance gives it."""
    [(_, least, most)] = chance.choices(SIZES, [share for share, _, _ in SIZES])
    size = int(chance.uniform(least, most))
    start = chance.randrange(len(texts) - size)
    event = {
        "idempotency_key": key_of(plan.worker, serial),
        "event_type": "suspicious_request",
        "reason": texts[start : start + size],
        "endpoint": "/api/orders",
        "method": "GET",
    }
    if chance.random() < OUTSIDE:
        event["timestamp"] = chance.choice(["2001-02-03T04:05:06Z", "2101-02-03T04:05:06Z"])
    return complete(to_row(event)[0])


def main(plan: Plan) -> None:
    """Accept, and send."""
    chance = random.Random(plan.worker)
    # Half random, so that it compresses about as text does.
    texts = chance.randbytes(100_000).hex()
    delivery = Delivery(GuardConfig.resolve())
    if plan.drain:
        delivery.start()
    for first in range(0, plan.events, ROWS):
        last = min(first + ROWS, plan.events)
        delivery.submit("events", [row(plan, serial, chance, texts) for serial in range(first, last)])
        while plan.drain and delivery.stats().bytes > MOST_WAITING:
            time.sleep(0.05)
    print(json.dumps({"accepted": plan.events}), flush=True)
    deadline = time.monotonic() + plan.drain
    while not (drained := delivery.stats().drained) and time.monotonic() < deadline:
        time.sleep(0.1)
    stats = delivery.stats()
    ledger = stats.ledger["events"]
    delivery.close(0.0)
    print(
        json.dumps(
            {
                "drained": drained,
                "accepted": ledger.accepted,
                "delivered": ledger.delivered,
                "dead_lettered": ledger.dead_lettered,
                "dropped": ledger.dropped,
            }
        ),
        flush=True,
    )
    # The others may still send: the figures are told when they have been asked for.
    sys.stdin.read()


if __name__ == "__main__":
    main(Plan(**json.loads(sys.argv[1])))
