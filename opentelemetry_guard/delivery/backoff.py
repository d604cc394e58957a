"""How long to wait after a failure, and what a server asked for."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

MAX_BACKOFF = 10.0
"""Seconds of the longest pause after a failure, unless the setting's first one is longer already."""
MAX_RETRY_AFTER = 300.0
"""Seconds beyond which a server's Retry-After is not followed."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a batch that could not be delivered is tried again.

    Attributes:
        attempts: failures that are each followed by a quick try; after that the batch waits in the backlog, where its
            tries are far apart. It is also how often a partial failure is repeated before the batch is a dead letter.
        factor: seconds that the pause after the first failure lasts at most.
        uniform: the source of jitter.
    """

    attempts: int = 5
    factor: float = 0.5
    uniform: Callable[[float, float], float] = random.uniform

    def delay(self, failures: int) -> float:
        """Return seconds until the next try after `failures` failures of one batch."""
        backlog = max(MAX_BACKOFF, self.factor)
        if failures > self.attempts:
            return backoff_delay(1, backlog, backlog, self.uniform)
        return backoff_delay(failures, self.factor, backlog, self.uniform)


def backoff_delay(
    failures: int,
    base: float = 0.5,
    cap: float = MAX_BACKOFF,
    uniform: Callable[[float, float], float] = random.uniform,
) -> float:
    """Return seconds to wait after `failures` failures in a row: exponential with full jitter, at most `cap`.

    Full jitter (anything from zero up to the exponential bound) spreads a
    fleet of clients that failed together.
    """
    bound = min(cap, base * 2.0 ** min(max(failures - 1, 0), 30))
    return uniform(0.0, bound)


def parse_retry_after(value: str | None, now: datetime | None = None, cap: float = MAX_RETRY_AFTER) -> float | None:
    """Return the seconds that a Retry-After header asks for, at most `cap`; None where there is none to read.

    It may be a number of seconds or an HTTP date (RFC 9110, section 10.2.3).
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), cap)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    seconds = (moment - (now or datetime.now(timezone.utc))).total_seconds()
    return min(max(seconds, 0.0), cap)
