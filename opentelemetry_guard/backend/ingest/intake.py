"""Rows on their way into the store: which are taken by when they happened, and what the sender is told of them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ...models import SecurityEvent, SecurityMetric
from ..openapi import Accepted
from ..storage.store import Store

AHEAD_SECONDS = 300.0
"""Seconds that an event may be ahead of this clock where there is a window."""


class Intake:
    """Puts batches into a store; safe to call from any thread."""

    def __init__(self, store: Store, window_seconds: float | None) -> None:
        """Put into `store` the events of the last `window_seconds`, or all of them.

        The hosted platform drops others, and counts them.
        """
        self._store, self._window = store, window_seconds

    def keep(
        self, project_id: str, batch_id: str, events: Sequence[SecurityEvent], metrics: Sequence[SecurityMetric]
    ) -> Accepted:
        """Store the rows of one batch; when this returns they are on the disk, but for events outside of the window."""
        now = time.time()
        kept = [event for event in events if self._is_timely(event, now)]
        stored = self._store.add(project_id, batch_id, kept, metrics, now)
        return Accepted(
            events_received=len(events),
            events_dropped_invalid_timestamp=len(events) - len(kept),
            metrics_received=len(metrics),
            events_processed=len(kept),
            metrics_processed=len(metrics),
            accepted=stored.accepted,
            duplicates=stored.duplicates,
        )

    def _is_timely(self, event: SecurityEvent, now: float) -> bool:
        return self._window is None or -AHEAD_SECONDS <= now - event.timestamp.timestamp() <= self._window
