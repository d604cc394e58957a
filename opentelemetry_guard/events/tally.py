"""Counts of what this process emitted, and of what was lost before it reached a queue.

A delivery's ledger begins where an exporter hands a batch over. What happens
before that (no pipeline, an event that can't be read, an exporter that is
switched off) is counted here, once per process, so that the difference
between `emitted` and the ledger's `accepted` is what the SDK's own queue lost.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from dataclasses import dataclass

NO_PIPELINE = "no_pipeline"
"""Reason: neither a log pipeline nor a recording span took it."""
INVALID = "invalid"
"""Reason: it is no event or metric, and couldn't be made one."""
DISABLED = "export_disabled"
"""Reason: a wrong setting switched the export off, or the SDK is disabled as a whole."""
SWITCHED_OFF = "switched_off"
"""Reason: a setting says that rows of this kind are not to be delivered."""
EMISSION_ERROR = "emission_error"
"""Reason: a component of the pipeline raised while it took the event."""
FILTERED = "filtered"
"""Reason: one of the user's processors returned None for it."""
PROCESSOR_ERROR = "processor_error"
"""Reason: one of the user's processors raised."""
REENTRANT = "reentrant"
"""Reason: it interrupted another emission on its own thread, as too many others did."""
PRIVACY_ERROR = "privacy_error"
"""Reason: it could not be cleaned of secrets."""


@dataclass(frozen=True, slots=True)
class TallyStats:
    """One reading: rows that were emitted by kind, and rows that were dropped by kind and reason."""

    emitted: dict[str, int]
    dropped: dict[str, dict[str, int]]


class Tally:
    """Counters that any thread may add to. The lock guards both dictionaries and is held for additions only.

    A signal's handler may add in the midst of an addition: the lock can be
    taken twice, and what is done under it calls no Python function, within
    which the interpreter would look for signals.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._emitted: defaultdict[str, int] = defaultdict(int)
        self._dropped: defaultdict[tuple[str, str], int] = defaultdict(int)

    def emit(self, kind: str) -> None:
        """Count one row of `kind` that the application emitted."""
        with self._lock:
            self._emitted[kind] += 1

    def drop(self, kind: str, reason: str, rows: int = 1) -> None:
        """Count `rows` of `kind` that were lost for `reason`."""
        with self._lock:
            self._dropped[kind, reason] += rows

    def read(self) -> TallyStats:
        """Return a copy of all counts."""
        with self._lock:
            dropped: dict[str, dict[str, int]] = {}
            for (kind, reason), rows in list(self._dropped.items()):
                dropped.setdefault(kind, {})[reason] = rows
            return TallyStats(dict(self._emitted), dropped)

    def _after_fork(self) -> None:
        # The counts are the parent's, and its lock may have been held by a thread that does not exist here.
        self.__init__()  # type: ignore[misc]


TALLY = Tally()
"""The counts of this process; a forked child starts at zero."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TALLY._after_fork)
