"""What guard-core reports with every request and nobody has to act on: one of a kind a minute, with a count."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .reports import Report

PERIOD = 60.0
"""Seconds in which one report of a kind passes."""

FOLDED = "folded"
"""Metadata key: how many reports of the same kind were left out since the last one that passed."""


def is_noise(event_type: str) -> bool:
    """Whether reports of this type come in floods that tell nothing new."""
    return event_type == "security_headers_applied" or event_type.startswith("pattern_anomaly_")


class NoiseFilter:
    """Lets one report of a kind pass in each period; every other one is in the count of one that passes later.

    The lock guards both dictionaries and is held for look-ups only. There are
    as many entries as kinds of noise, and guard-core knows a handful.
    """

    def __init__(self, period: float = PERIOD, clock: Callable[[], float] = time.monotonic) -> None:
        """Build a filter.

        Args:
            period: seconds.
            clock: tells seconds that never go back.
        """
        self._period = period
        self._clock = clock
        self._lock = threading.Lock()
        self._passed_at: dict[str, float] = {}
        self._held: dict[str, tuple[int, Report]] = {}  # how many are folded, and the latest of them

    def admit(self, report: Report) -> Report | None:
        """Return the report as it is to be told, or None where it is folded into a later one of its kind."""
        kind = str(report.get("event_type"))
        now = self._clock()
        with self._lock:
            passed_at = self._passed_at.get(kind)
            folded, _ = self._held.get(kind, (0, report))
            if passed_at is not None and now - passed_at < self._period:
                self._held[kind] = (folded + 1, report)
                return None
            self._passed_at[kind] = now
            self._held.pop(kind, None)
        return _counted(report, folded)

    def drain(self) -> list[Report]:
        """Return what is still folded, for the end of an application: the latest of each kind counts the others."""
        with self._lock:
            held, self._held = self._held, {}
        return [_counted(report, folded - 1) for folded, report in held.values()]


def _counted(report: Report, folded: int) -> Report:
    if not folded:
        return report
    metadata = report.get("metadata")
    return {**report, "metadata": {**(metadata if isinstance(metadata, dict) else {}), FOLDED: folded}}
