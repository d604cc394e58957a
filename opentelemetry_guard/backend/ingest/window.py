"""Which events are taken by when they say they happened: the hosted platform drops others, and counts them."""

from __future__ import annotations

from collections.abc import Sequence

from ...models import SecurityEvent

AHEAD_SECONDS = 300.0
"""Seconds that an event may be ahead of this clock where there is a window."""


def timely(events: Sequence[SecurityEvent], now: float, window_seconds: float | None) -> Sequence[SecurityEvent]:
    """Return the events of the last `window_seconds` before `now` (Unix seconds); all of them without a window."""
    if window_seconds is None:
        return events
    return [event for event in events if -AHEAD_SECONDS <= now - event.timestamp.timestamp() <= window_seconds]
