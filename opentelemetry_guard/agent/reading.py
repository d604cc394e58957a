"""One reading of the agent's figures, in the words of the documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..delivery.delivery import Delivery
from ..models import AgentStatus
from ..queue.base import Ledger
from ..tally import TALLY


@dataclass(frozen=True, slots=True)
class Reading:
    """What was sent, what waits, and how the delivery is doing.

    `counts` and `buffer` have the names of the documents; figures count
    rows. They are the queue's, which outlive the process and are shared with
    the other processes of the queue.
    """

    status: AgentStatus
    counts: dict[str, int]
    buffer: dict[str, Any]

    @classmethod
    def of(cls, delivery: Delivery | None, uptime: float, held: int) -> Reading:
        """Read a delivery, None where there is none yet; `held` rows wait for the agent's start."""
        if delivery is None:
            return cls(_without_delivery(uptime, held), _counts(Ledger(), Ledger()), _buffer(Ledger(), Ledger(), held))
        stats = delivery.stats()
        events, metrics = stats.ledger["events"], stats.ledger["metrics"]
        status = delivery.status()
        buffer = {
            **_buffer(events, metrics, held),
            "depth": stats.depth,
            "bytes": stats.bytes,
            "oldest": stats.oldest,
            "last_flush_time": None if status.last_flush is None else status.last_flush.timestamp(),
        }
        waiting = events.queued + events.in_flight + metrics.queued + metrics.in_flight + held
        return cls(
            status.model_copy(update={"uptime": uptime, "buffer_size": waiting}), _counts(events, metrics), buffer
        )


def _counts(events: Ledger, metrics: Ledger) -> dict[str, int]:
    return {
        "events_sent": events.delivered,
        "metrics_sent": metrics.delivered,
        "events_failed": events.dead_lettered + sum(events.dropped.values()),
        "metrics_failed": metrics.dead_lettered + sum(metrics.dropped.values()),
    }


def _buffer(events: Ledger, metrics: Ledger, held: int) -> dict[str, Any]:
    lost = TALLY.read().dropped
    return {
        "current_event_buffer_size": events.queued + events.in_flight,
        "current_metric_buffer_size": metrics.queued + metrics.in_flight,
        "held_before_start": held,
        "events_buffered": events.accepted,
        "metrics_buffered": metrics.accepted,
        "events_flushed": events.delivered,
        "metrics_flushed": metrics.delivered,
        "events_dropped": sum(events.dropped.values()) + sum(lost.get("events", {}).values()),
        "metrics_dropped": sum(metrics.dropped.values()) + sum(lost.get("metrics", {}).values()),
    }


def _without_delivery(uptime: float, held: int) -> AgentStatus:
    return AgentStatus(
        status="degraded",
        uptime=uptime,
        buffer_size=held,
        errors=["the agent delivers nothing: call agent.start(), or see the log for why Guard export is switched off"],
    )
