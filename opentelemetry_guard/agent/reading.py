"""One reading of the agent's figures, in the words of the documents."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.environment_variables import OTEL_SDK_DISABLED

from ..delivery.delivery import Delivery
from ..events.tally import TALLY
from ..models import AgentStatus
from ..queue.base import KINDS, Kind, Ledger


@dataclass(frozen=True, slots=True)
class Reading:
    """What was sent, what waits, and how the delivery is doing.

    `counts` and `buffer` have the names of the documents; figures count
    rows. What was sent is this process's, with `queue_` in front the queue's;
    all others are the queue's, which outlive the process and are shared with
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
        stats = None if delivery is None else delivery.stats()
        ledger = {kind: Ledger() for kind in KINDS} if stats is None else stats.ledger
        status = _without_delivery(uptime is not None) if delivery is None else delivery.status()
        buffered = sum(row.queued + row.in_flight for row in ledger.values()) + held + waiting
        buffer = {"held_before_start": held, **_buffer("event", ledger["events"], waiting)}
        buffer.update(_buffer("metric", ledger["metrics"], 0))
        if stats is not None:
            buffer.update(
                depth=stats.depth,
                bytes=stats.bytes,
                oldest=stats.oldest,
                last_flush_time=None if status.last_flush is None else status.last_flush.timestamp(),
            )
        return cls(
            status.model_copy(update={"uptime": uptime or 0.0, "buffer_size": buffered}),
            {
                name: count
                for kind in KINDS
                for name, count in _counts(kind, ledger[kind], 0 if delivery is None else delivery.sent[kind]).items()
            },
            buffer,
        )


def _counts(kind: Kind, ledger: Ledger, sent: int) -> dict[str, int]:
    return {
        f"{kind}_sent": sent,
        f"queue_{kind}_sent": ledger.delivered,
        f"{kind}_failed": ledger.dead_lettered + sum(ledger.dropped.values()),
    }


def _buffer(noun: str, ledger: Ledger, waiting: int) -> dict[str, Any]:
    lost = TALLY.read().dropped.get(f"{noun}s", {})
    return {
        f"current_{noun}_buffer_size": ledger.queued + ledger.in_flight + waiting,
        f"{noun}s_buffered": ledger.accepted + waiting,
        f"{noun}s_flushed": ledger.delivered,
        f"{noun}s_dropped": sum(ledger.dropped.values()) + sum(lost.values()),
    }


def _without_delivery(running: bool) -> AgentStatus:
    if not running:
        return AgentStatus(status="degraded", uptime=0.0, errors=["the agent does not run: call agent.start()"])
    why = "OTEL_SDK_DISABLED is set" if os.environ.get(OTEL_SDK_DISABLED, "").strip() else "the log says why"
    return AgentStatus(
        status="failed", uptime=0.0, errors=[f"Guard export is switched off, and nothing is delivered: {why}"]
    )
