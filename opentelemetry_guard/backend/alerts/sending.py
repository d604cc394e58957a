"""Telling of alerts by channels that may fail: each has a circuit breaker, and each notice is tried again in time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ...delivery.backoff import backoff_delay
from ...delivery.breaker import BreakerPolicy, CircuitBreaker
from ...settings.shown import visible, without
from .channels import ChannelSettings, OtelChannel, WebhookChannel
from .log_record import LogRecords
from .mail import Mail
from .notice import Notice, NotTaken
from .webhook import Webhook

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
"""Seconds after the first failure of a notice, and after any, at most."""

POLICY = BreakerPolicy(failures=3, recovery=10.0, max_recovery=LONGEST_PAUSE, backoff=FIRST_PAUSE)
"""When a channel rests: a receiver that is gone is asked no oftener than every few minutes."""

_MOST_CHARACTERS = 300
"""Of a failure."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A notice was not taken: why, without any secret, and the seconds until it is tried again."""

    reason: str
    pause: float


class Channel:
    """A way to tell of alerts, with its breaker. To be used by one thread at a time."""

    def __init__(
        self,
        settings: ChannelSettings,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Send as `settings` say. `clock` is monotonic, `uniform` the source of jitter."""
        self._send = sender_of(settings)
        self._secrets = settings.secrets
        self._clock, self._uniform = clock, uniform
        self._breaker = CircuitBreaker(POLICY, uniform)
        self._left_alone_until = float("-inf")

    def is_ready(self) -> bool:
        """Whether a notice may be sent now."""
        return max(self._breaker.ready_at, self._left_alone_until) <= self._clock()

    def send(self, notice: Notice, failures: int) -> Failure | None:
        """Send a notice that has failed so many times; return what failed, None where it is sent."""
        self._breaker.begin()
        try:
            self._send(notice)
        except Exception as error:  # noqa: BLE001  three libraries, whose errors have no common base; none may end the thread
            now = self._clock()
            self._breaker.failed(now)
            asked = error.pause if isinstance(error, NotTaken) else 0.0
            self._left_alone_until = now + asked
            pause = backoff_delay(failures + 1, FIRST_PAUSE, LONGEST_PAUSE, self._uniform)
            return Failure(described(error, self._secrets), max(pause, asked))
        self._breaker.succeeded(self._clock())
        return None


def sender_of(settings: ChannelSettings) -> Callable[[Notice], None]:
    """Return what sends one notice by a channel, or raises."""
    if isinstance(settings, WebhookChannel):
        return Webhook(settings).send
    return LogRecords().send if isinstance(settings, OtelChannel) else Mail(settings).send


def described(error: BaseException, secrets: Iterable[str]) -> str:
    """Say why something failed in one line, by the innermost cause, and without the secrets."""
    cause = error
    while (inner := cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)) is not None:
        cause = inner
    text = str(cause) if isinstance(cause, NotTaken) else f"{type(cause).__name__}: {cause}"
    return visible(" ".join(without(secrets, text).split()))[:_MOST_CHARACTERS]
