"""Counters that whoever counts pays next to nothing for: a number in a table, which a collection reads.

One `add` of the SDK's counters costs ten times as much, and what is counted
here is counted at every request. OpenTelemetry calls such a counter an
observable one. A provider makes only one instrument of a name, so there is
one table for a name of a provider, whoever asks for it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TypeAlias

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.util.types import AttributeValue

from .. import semconv
from ..version import __version__

MAX_SERIES = 2_000
"""Series of one counter; what is beyond them is counted in one more."""

Attributes: TypeAlias = "tuple[tuple[str, AttributeValue], ...]"
"""The attributes of what is counted, always in the same order."""

Cleaned: TypeAlias = Callable[[Attributes], Attributes]
"""Returns attributes as they may leave the process."""

_OVERFLOW: Attributes = ((semconv.METRIC_OVERFLOW, True),)


class Counts:
    """Counts since the process began, by attributes; any thread may add.

    A signal's handler may add in the midst of an addition, so the lock can be taken twice.
    """

    def __init__(self, cleaned: Cleaned) -> None:
        """Count nothing yet.

        Args:
            cleaned: is asked when a collection reads, and not when something is counted.
        """
        self._cleaned = cleaned
        self._lock = threading.RLock()
        self._counts: dict[Attributes, int] = {}
        self._told: dict[Attributes, int] = {}  # as they were when a collection read them last

    def add(self, attributes: Attributes) -> None:
        """Count one more."""
        with self._lock:
            before = self._counts.get(attributes)
            if before is not None:
                self._counts[attributes] = before + 1
                return
            if len(self._counts) >= MAX_SERIES:
                attributes = _OVERFLOW
            self._counts[attributes] = self._counts.get(attributes, 0) + 1

    def observe(self, options: CallbackOptions) -> Iterable[Observation]:
        """Return the counts; what differs in secrets alone is one series."""
        with self._lock:
            counted = self._told = self._counts.copy()
        told: dict[Attributes, int] = {}
        for attributes, count in counted.items():
            clean = self._cleaned(attributes)
            told[clean] = told.get(clean, 0) + count
        return [Observation(count, dict(attributes)) for attributes, count in told.items()]

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        # What nobody has read yet is the parent's to tell. The SDK goes on from what was read, so that can't be zero.
        self._counts = self._told.copy()


_lock = threading.Lock()  # guards the table, and is held while an instrument is made
_tables: weakref.WeakKeyDictionary[MeterProvider, dict[str, Counts]] = weakref.WeakKeyDictionary()


def counts(provider: MeterProvider, name: str, unit: str, description: str, cleaned: Cleaned) -> Counts:
    """Return the table that a provider's observable counter reads, which is made where there is none yet.

    Args:
        provider: collects it; one of the SDK's.
        name: of the instrument.
        unit: of the instrument (UCUM).
        description: of the instrument.
        cleaned: returns attributes without secrets.
    """
    with _lock:
        tables = _tables.setdefault(provider, {})
        if name not in tables:
            made = tables[name] = Counts(cleaned)
            meter = provider.get_meter(semconv.SCOPE_NAME, __version__)
            meter.create_observable_counter(name, [made.observe], unit, description)
        return tables[name]


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    for tables in list(_tables.values()):
        for table in tables.values():
            table._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
