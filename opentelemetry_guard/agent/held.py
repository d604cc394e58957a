"""What is sent before the agent has started: kept in memory, bounded, and emitted once there is a pipeline."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from ..emit import Emitter
from ..events import incident
from ..events.tally import TALLY
from ..queue.base import Kind
from ..settings.once import log_once

_logger = logging.getLogger(__name__)

MAX_HELD = 2048
"""Rows that are held at most, as many as a batch processor of the SDK takes."""

NOT_STARTED = "not_started"
"""Reason: the agent was not started, before too many were sent or before the process ended."""


@dataclass(frozen=True, slots=True)
class _Row:
    kind: Kind
    fields: Mapping[str, object]
    context: Context


class Held:
    """Rows in the order of their arrival. The lock guards `_rows` and is held for deque operations only.

    A signal's handler may put a row in the midst of another's, so the lock can be taken twice.
    """

    def __init__(self) -> None:
        self.reset()
        _all.add(self)

    def reset(self) -> None:
        """Hold nothing, in the child of a fork: the parent has the rows too, and sends them."""
        self._lock = threading.RLock()
        self._rows: deque[_Row] = deque()

    def put(self, kind: Kind, fields: Mapping[str, object]) -> None:
        """Hold one row with the trace it belongs to; the oldest goes, and is counted, where there are too many."""
        row = _Row(kind, fields, otel_context.get_current())
        if kind == "events":
            incident.note(fields)  # its request may be over when it is emitted
        _say_at_the_end()
        with self._lock:
            self._rows.append(row)
            oldest = self._rows.popleft() if len(self._rows) > MAX_HELD else None
        if oldest is not None:
            _count_lost(oldest)

    def full(self) -> bool:
        """Whether the next row costs the oldest."""
        return len(self._rows) >= MAX_HELD

    def __len__(self) -> int:
        return len(self._rows)

    def emit_into(self, emitter: Emitter) -> None:
        """Emit what is held, oldest first, until nothing is left."""
        while True:
            with self._lock:
                if not self._rows:
                    return
                row = self._rows.popleft()
            token = otel_context.attach(row.context)
            _, notes_token = incident.begin()  # it is no event of the request that starts the agent
            try:
                if row.kind == "events":
                    emitter.emit_event(row.fields)
                else:
                    emitter.record_metric(row.fields)
            finally:
                incident.end(notes_token)
                otel_context.detach(token)

    def give_up(self) -> int:
        """Count what is held as dropped, for the end of the process; return how many rows that were."""
        with self._lock:
            rows, self._rows = self._rows, deque()
        for row in rows:
            _count_lost(row)
        return len(rows)


def _count_lost(row: _Row) -> None:
    TALLY.emit(row.kind)
    TALLY.drop(row.kind, NOT_STARTED)


_all: weakref.WeakSet[Held] = weakref.WeakSet()


@cache
def _say_at_the_end() -> None:
    atexit.register(_give_up)


def _give_up() -> None:
    lost = sum(held.give_up() for held in list(_all))
    if lost:
        log_once(
            _logger,
            logging.ERROR,
            f"{lost} events and metrics are lost: they were sent to an agent that was never started, or was stopped; "
            "call agent.start() before",
        )
