"""What the agent learns of the calls to its destination: counts, failures for `on_error`, and batches to forget."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ..delivery.calls import Call
from ..delivery.outcome import Verdict
from ..delivery.route import RouteName
from ..queue.base import Batch
from .errors import RULES, SEND, STATUS, DeliveryError, ErrorReporter

_STAGES: Mapping[RouteName, str] = {"events": SEND, "metrics": SEND, "status": STATUS, "rules": RULES}


class CallCounts:
    """How many calls were made, and with what success. The lock guards the numbers."""

    def __init__(self) -> None:
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._sent = self._failed = self._bytes = 0
        self._rules = 0
        self._last: float | None = None

    def count(self, *, accepted: bool, size: int = 0, rules: bool = False) -> None:
        """Count one call; `size` is that of its body in bytes."""
        with self._lock:
            self._bytes += size
            self._rules += rules and accepted
            if accepted:
                self._sent += 1
                self._last = time.time()
            else:
                self._failed += 1

    def read(self) -> dict[str, Any]:
        """Return the counts under the names of the documents; `last_success` is in Unix seconds."""
        with self._lock:
            return {
                "requests_sent": self._sent,
                "requests_failed": self._failed,
                "bytes_sent": self._bytes,
                "rules_fetched": self._rules,
                "last_success": self._last,
            }


_all: weakref.WeakSet[CallCounts] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for counts in _all:
        counts._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class CallWatch:
    """Takes note of calls, whoever asked for them: the delivery, its reports, or the rules."""

    def __init__(
        self, destination: Callable[[], str | None], errors: ErrorReporter, settled: Callable[[Batch], None]
    ) -> None:
        """Make a watch.

        Args:
            destination: returns whose calls count, None for none.
            errors: gets the failures.
            settled: told of batches that need not be sent again.
        """
        self.counts = CallCounts()
        self._destination = destination
        self._errors = errors
        self._settled = settled

    def note(self, call: Call) -> None:
        """Take note of a call that has ended, if it was made for the destination."""
        if call.destination != self._destination():
            return
        outcome, batch = call.outcome, call.batch
        accepted = outcome.verdict is Verdict.ACCEPTED
        self.counts.count(accepted=accepted, size=len(batch.body) if batch else 0, rules=call.route == "rules")
        if batch is not None and _is_settled(batch, outcome.verdict):
            self._settled(batch)
        if not accepted:
            text = outcome.reason or f"the backend answered with status {outcome.status}"
            self._errors.report(
                _STAGES[call.route],
                DeliveryError(text),
                **_context(batch),
                status_code=outcome.status,
                verdict=outcome.verdict.value,
            )


def _is_settled(batch: Batch, verdict: Verdict) -> bool:
    """Whether a batch need not be sent again: it was taken, or refused and can't be narrowed down."""
    return verdict is Verdict.ACCEPTED or (verdict in (Verdict.REFUSED, Verdict.TOO_LARGE) and batch.rows == 1)


def _context(batch: Batch | None) -> dict[str, object]:
    if batch is None:
        return {}
    return {"kind": batch.kind, "batch_id": batch.batch_id, "batch_size": batch.rows}
