"""How often somebody may ask: a token bucket for each of them."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

_REMEMBERED = 10_000
"""Buckets that are kept; the one that was asked for longest ago goes first, and would be full again by then."""


class RateLimiter:
    """Lets everybody ask a number of times a minute, spread as they like; safe to call from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the time in seconds from `clock`."""
        self._clock = clock
        # The lock guards the buckets: what is left, and when that was written down.
        self._lock = threading.Lock()
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def wait(self, who: Hashable, per_minute: int) -> int:
        """Count one request of `who`; return 0 when it may go on, else after how many seconds to ask again."""
        now = self._clock()
        with self._lock:
            left, since = self._buckets.pop(who, (float(per_minute), now))
            left = min(left + (now - since) * per_minute / 60, float(per_minute))
            allowed = left >= 1
            self._buckets[who] = (left - 1 if allowed else left, now)
            if len(self._buckets) > _REMEMBERED:
                self._buckets.popitem(last=False)
        return 0 if allowed else max(math.ceil((1 - left) * 60 / per_minute), 1)
