"""Events that come more than once: on a span and as a log record, or on their way to two destinations."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import islice

from ..events.codec import EncodedRow, Row

REMEMBERED_KEYS = 8192
"""Events whose repetition is noticed, the latest ones."""


class Repeats:
    """Remembers which events have come. Any thread may ask."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._recent: dict[str, None] = {}  # under _lock

    def without(self, rows: Sequence[Row | EncodedRow]) -> list[Row | EncodedRow]:
        """Return the events that have not come before; from now on they have."""
        unseen: list[Row | EncodedRow] = []
        with self._lock:
            recent = self._recent
            for row in rows:
                key = row.key if type(row) is EncodedRow else str(row["idempotency_key"])  # type: ignore[index]
                if key not in recent:
                    recent[key] = None
                    unseen.append(row)
            if len(recent) > REMEMBERED_KEYS:
                for key in tuple(islice(recent, len(recent) - REMEMBERED_KEYS)):
                    del recent[key]
        return unseen

    def tell(self, successor: Repeats) -> None:
        """Let another one know what has come."""
        with self._lock:
            recent = list(self._recent)
        with successor._lock:
            successor._recent.update(dict.fromkeys(recent))
