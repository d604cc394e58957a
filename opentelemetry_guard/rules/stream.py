"""The connection on which the backend tells of changed rules at once, for as long as there is one.

Polling goes on beside it, seldom while the connection lives and as usual while
there is none: a backend without a stream, a proxy that holds answers back and
an outage all cost time and no rules.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Protocol

from ..decision.signing import Proof, new_nonce
from ..delivery.outcome import Outcome, Verdict
from ..delivery.streaming import EventStream
from .link import Link, Streaming

_logger = logging.getLogger(__name__)

FIRST_SECONDS = 10.0
"""Seconds in which a stream has to begin; a backend that has one says something at once."""
SILENCE_SECONDS = 40.0
"""Seconds without a byte after which a connection is given up; a heartbeat comes every 15."""
NOT_OFFERED_SECONDS = 3600.0
"""Seconds to the next try where the backend has no stream, or a proxy holds it back."""
REFUSED_SECONDS = 300.0
"""Seconds to the next try where the backend refuses us; the polls say why."""
FIRST_PAUSE = 2.0
"""Seconds to the next connection at most after one that has ended; each failure in a row doubles them."""
LONGEST_PAUSE = 60.0
"""Seconds that such a pause has at most."""
LONGEST_WISH = 300.0
"""Seconds that a backend may ask to wait."""
MOST_MUTE = 2
"""Connections in a row on which nothing came, after which something is taken to hold them back."""
SPREAD = (0.8, 1.2)
"""By what long pauses are multiplied, so that a fleet doesn't try together."""
CHILD_PAUSE = (0.1, 1.0)
"""Least and most seconds from a fork to the child's first connection."""


class Listener(Protocol):
    """Who wants to be told of rules."""

    def wanted(self) -> Link | None:
        """Return where rules come from; None where nobody wants them."""
        ...

    def known_tag(self, link: Link) -> str | None:
        """Return the ETag of the rules that are known."""
        ...

    def hear(self, link: Link, document: bytes, tag: str, proof: Proof | None) -> bool:
        """Take over what the backend tells; return whether it can be used."""
        ...

    def lost(self) -> None:
        """Learn that a stream has ended that had been alive."""
        ...


class _UnusableError(Exception):
    """A stream brought what can't be used."""


class RulesStream:
    """Holds one connection at a time. All but `hurry` and `is_live` happens on the control's thread (a `Task`)."""

    def __init__(
        self,
        listener: Listener,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Make one that tells `listener`, by the clock `monotonic` in seconds, with jitter from `uniform`."""
        self._listener = listener
        self._monotonic = monotonic
        self._uniform = uniform
        self._live_for: Link | None = None  # what speaks to us
        self._open: EventStream | None = None
        self._hurries = 0  # how often something has changed that a pause must not outlast
        self._failures = 0
        self._mute = 0
        self.due_at = 0.0
        self.starts_in_child = False

    def is_live(self, link: Link) -> bool:
        """Whether a link would tell of a change at once."""
        return self._live_for == link

    def hurry(self) -> None:
        """Forget pauses: there are other settings, or somebody listens again. The control is to be woken after it."""
        self._hurries += 1
        self.due_at = 0.0

    def run(self) -> None:
        """Connect and listen until the connection ends, and say when to connect again."""
        hurries = self._hurries
        link = self._listener.wanted()
        if link is None or link.streaming is None:
            pause = float("inf")
        elif (wait := link.route.ready_at(time.monotonic()) - time.monotonic()) > 0:
            # The polls know that the backend is away, or wants to be left alone.
            pause = wait + self._uniform(0.0, FIRST_PAUSE)
        else:
            pause = self._listen(link, link.streaming)
        self.due_at = self._monotonic() + pause if hurries == self._hurries else 0.0

    def after_fork_in_child(self) -> None:
        """Leave the connection to the parent, and open one of the child's own soon."""
        stream, self._open = self._open, None
        if stream is not None:
            stream.leave_to_parent()
        self._live_for, self._failures = None, 0
        self.due_at = self._monotonic() + self._uniform(*CHILD_PAUSE)

    def _listen(self, link: Link, streaming: Streaming) -> float:
        """Follow one connection to its end; return the seconds to the next."""
        nonce = new_nonce()
        answer = streaming.stream_rules(self._listener.known_tag(link), nonce)
        if isinstance(answer, Outcome):
            return REFUSED_SECONDS if answer.verdict is Verdict.MISCONFIGURED else self._after_failure(answer.text)
        self._open = answer
        try:
            if not answer.is_stream:
                return self._after_refusal(answer)
            self._follow(link, streaming, answer, nonce)
        except _UnusableError as error:
            self._lose()
            return self._after_failure(str(error))
        except Exception as error:  # noqa: BLE001  urllib3's and http.client's errors have no common base; none may pass
            return self._after_end(f"{type(error).__name__}: {error}")
        finally:
            self._open = None
            answer.close()
        return self._after_end("the backend has ended it")

    def _follow(self, link: Link, streaming: Streaming, answer: EventStream, nonce: str) -> None:
        """Take over what comes, until the end, or until the link is another one."""
        number = 0
        for event in answer.events(FIRST_SECONDS, SILENCE_SECONDS):
            if event is not None:
                number += 1
                proof = streaming.proof(nonce, number, event.signature)
                if not self._listener.hear(link, event.data, event.id, proof):
                    raise _UnusableError("it brings rules that can't be used")
            self._live_for = link
            self._failures = self._mute = 0
            if self._listener.wanted() != link:
                return

    def _lose(self) -> bool:
        """Say that the stream has ended, where it was alive; return whether it was."""
        was_live, self._live_for = self._live_for is not None, None
        if was_live:
            self._listener.lost()
        return was_live

    def _after_end(self, why: str) -> float:
        if self._lose():
            _logger.debug("the stream of rules has ended (%s), polling until there is another", why)
            return self._uniform(0.0, FIRST_PAUSE)
        self._mute += 1
        return self._not_offered("nothing comes on it") if self._mute >= MOST_MUTE else self._after_failure(why)

    def _after_refusal(self, answer: EventStream) -> float:
        if answer.status in (401, 403):
            return REFUSED_SECONDS * self._uniform(*SPREAD)
        if not answer.may_come or answer.status == 501:
            return self._not_offered(f"the answer has status {answer.status}")
        wish = min(answer.retry_after or 0.0, LONGEST_WISH)
        return wish * self._uniform(1.0, 2.0) + self._after_failure(f"status {answer.status}")

    def _not_offered(self, why: str) -> float:
        self._mute = 0
        _logger.debug("the backend offers no stream of rules (%s), they are polled", why)
        return NOT_OFFERED_SECONDS * self._uniform(*SPREAD)

    def _after_failure(self, why: str) -> float:
        _logger.debug("there is no stream of rules (%s), they are polled", why)
        self._failures += 1
        return self._uniform(0.5, 1.0) * min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures, 16))
