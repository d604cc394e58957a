"""How often somebody may ask: a token bucket for each of them, which all processes of a database share."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi.concurrency import run_in_threadpool

from ..storage.rates import Drawn

_REMEMBERED = 10_000
"""Whose tokens are kept at once; of who asked longest ago they are lost first."""

Draw = Callable[[str, int], Drawn]
"""Takes a portion from the bucket of a name, to which so many tokens come in a minute."""


@dataclass(slots=True)
class _Purse:
    """What was drawn and not yet spent; `empty_until` (monotonic seconds) there is nothing to be drawn."""

    tokens: int = 0
    empty_until: float = float("-inf")
    drawing: asyncio.Lock = field(default_factory=asyncio.Lock)


class RateLimiter:
    """Lets everybody ask a number of times a minute, spread as they like. Used on the event loop alone."""

    def __init__(self, draw: Draw, kind: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Take tokens by `draw`, from buckets of a `kind`; `clock` gives seconds.

        What `draw` raises leaves the question unanswered.
        """
        self._draw, self._kind, self._clock = draw, kind, clock
        self._purses: OrderedDict[str, _Purse] = OrderedDict()

    async def wait(self, who: str, per_minute: int) -> int:
        """Count one request of `who`; return 0 when it may go on, else after how many seconds to ask again."""
        purse = self._purse(who)
        if not purse.tokens:
            async with purse.drawing:
                # Somebody may have drawn while this one waited, for all who wait.
                if not purse.tokens and self._clock() >= purse.empty_until:
                    drawn = await run_in_threadpool(self._draw, f"{self._kind}:{who}", per_minute)
                    purse.tokens, purse.empty_until = drawn.tokens, self._clock() + drawn.wait
        if purse.tokens:
            purse.tokens -= 1
            return 0
        return max(math.ceil(purse.empty_until - self._clock()), 1)

    def _purse(self, who: str) -> _Purse:
        purse = self._purses.pop(who, None) or _Purse()
        self._purses[who] = purse
        if len(self._purses) > _REMEMBERED:
            self._purses.popitem(last=False)
        return purse
