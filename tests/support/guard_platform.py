"""The hosted platform's limits, as what a `GuardServer` decides by: bodies, timestamps, and refusals in between."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from .guard_server import Answer, Json


@dataclass
class Platform:
    """Refuses bodies of more than `max_body` bytes, and drops events outside of a window around its clock.

    Every `unavailable_every`-th request is answered with 503 and Retry-After.
    The counts are the server's own: rows that it has kept, and dropped by
    the reason that its answer gives; bytes of bodies that came, and of those
    that were refused for their size.
    """

    max_body: int = 262_144
    past_seconds: float = 7 * 86_400.0
    future_seconds: float = 300.0
    unavailable_every: int = 0
    answer: Json = field(default_factory=dict)
    kept: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    sizes: list[int] = field(default_factory=list)
    refused_sizes: list[int] = field(default_factory=list)

    def __call__(self, body: bytes, document: Json) -> Answer:
        """Answer one request; the server calls this one after the other."""
        self.sizes.append(len(body))
        if self.unavailable_every and len(self.sizes) % self.unavailable_every == 0:
            return Answer(503, b'{"detail": "busy"}', {"Retry-After": "0"})
        if len(body) > self.max_body:
            self.refused_sizes.append(len(body))
            return Answer(413, b'{"detail": "payload too large"}')
        events, metrics = document["events"], document["metrics"]
        timely = [event for event in events if self._takes(event)]
        self.dropped += len(events) - len(timely)
        self.kept.update(event["idempotency_key"] for event in timely)
        self.kept["metrics"] += len(metrics)
        told = {
            "success": True,
            "events_received": len(events),
            "events_dropped_invalid_timestamp": len(events) - len(timely),
            "metrics_received": len(metrics),
            "events_processed": len(timely),
            "metrics_processed": len(metrics),
            "errors": [],
        }
        return Answer(200, json.dumps({**told, **self.answer}).encode())

    @property
    def wasted_share(self) -> float:
        """The share of all bytes that were sent for nothing since they were too many at once."""
        return sum(self.refused_sizes) / max(1, sum(self.sizes))

    def _takes(self, event: Json) -> bool:
        age = time.time() - datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).timestamp()
        return -self.future_seconds <= age <= self.past_seconds
