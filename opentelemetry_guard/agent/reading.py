"""One reading of the agent's figures, in the words of the documents."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.environment_variables import OTEL_SDK_DISABLED

from ..delivery.delivery import Delivery
from ..events.tally import TALLY
from ..models import AgentStatus
from ..queue.base import Ledger


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
    def of(cls, delivery: Delivery | None, uptime: float | None, held: int, waiting: int) -> Reading:
        """Read a delivery, None where there is none yet.

        Args:
            delivery: what the events go to.
            uptime: seconds since the agent's start, None where it does not run.
            held: rows that wait for the agent's start.
            waiting: events that wait to be written ahead.
        """
        if delivery is None:
            empty = _buffer(Ledger(), Ledger(), held, waiting)
            status = _without_delivery(uptime is not None, uptime or 0.0, held + waiting)
            return cls(status, _counts(Ledger(), Ledger()), empty)
        stats = delivery.stats()
        events, metrics = stats.ledger["events"], stats.ledger["metrics"]
        status = delivery.status()
        buffer = {
            **_buffer(events, metrics, held, waiting),
            "depth": stats.depth,
            "bytes": stats.bytes,
            "oldest": stats.oldest,
            "last_flush_time": None if status.last_flush is None else status.last_flush.timestamp(),
        }
        buffered = events.queued + events.in_flight + metrics.queued + metrics.in_flight + held + waiting
        return cls(
            status.model_copy(update={"uptime": uptime or 0.0, "buffer_size": buffered}),
            _counts(events, metrics),
            buffer,
        )


def _counts(events: Ledger, metrics: Ledger) -> dict[str, int]:
    return {
        "events_sent": events.delivered,
        "metrics_sent": metrics.delivered,
        "events_failed": events.dead_lettered + sum(events.dropped.values()),
        "metrics_failed": metrics.dead_lettered + sum(metrics.dropped.values()),
    }


def _buffer(events: Ledger, metrics: Ledger, held: int, waiting: int) -> dict[str, Any]:
    lost = TALLY.read().dropped
    return {
        "current_event_buffer_size": events.queued + events.in_flight + waiting,
        "current_metric_buffer_size": metrics.queued + metrics.in_flight,
        "held_before_start": held,
        "events_buffered": events.accepted + waiting,
        "metrics_buffered": metrics.accepted,
        "events_flushed": events.delivered,
        "metrics_flushed": metrics.delivered,
        "events_dropped": sum(events.dropped.values()) + sum(lost.get("events", {}).values()),
        "metrics_dropped": sum(metrics.dropped.values()) + sum(lost.get("metrics", {}).values()),
    }


def _without_delivery(running: bool, uptime: float, waiting: int) -> AgentStatus:
    if not running:
        return AgentStatus(
            status="degraded", uptime=uptime, buffer_size=waiting, errors=["the agent does not run: call agent.start()"]
        )
    why = "OTEL_SDK_DISABLED is set" if os.environ.get(OTEL_SDK_DISABLED, "").strip() else "the log says why"
    return AgentStatus(
        status="failed",
        uptime=uptime,
        buffer_size=waiting,
        errors=[f"Guard export is switched off, and nothing is delivered: {why}"],
    )
