"""The client of the backend's dynamic rules: asks for them, keeps them, and tells those who enforce them.

The rules that are known stay through every outage and over a restart; only
newer rules and their own ``expires_at`` end them. A document that can't be
used changes nothing.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from opentelemetry.instrumentation.utils import suppress_instrumentation

from .. import privacy
from ..decision.signing import Proof
from ..delivery.control import RULES, Control
from ..delivery.outcome import Verdict
from ..models import DynamicRules
from .kept import KeptRules, read_rules, write_rules
from .known import Known, read_document
from .link import Link, LinkSource
from .refusals import Refusals, RefusedDocument
from .stream import RulesStream

_logger = logging.getLogger(__name__)

DEFAULT_INTERVAL = 30.0
"""Seconds between two polls where neither a subscriber nor the backend's `ttl` says another interval.

Asking is cheap: an answer that nothing has changed (304) has no body.
"""
LONGEST_INTERVAL = 300.0
"""Seconds between two polls where the backend's `ttl` is longer, and no subscriber says an interval."""
STREAMED_INTERVAL = 300.0
"""Seconds between two polls while a stream would tell of changes at once; they find what it may have missed."""
MIN_INTERVAL = 1.0
"""Seconds between two polls at least."""
RETRY_INTERVAL = 15.0
"""Seconds after which a poll that failed is repeated at most, unless the breaker or the backend asks for more."""
CALL_SECONDS = 10.0
"""Seconds that one poll may take at most, whatever the request timeout is: subscribers wait behind it."""
CHILD_PAUSE = (0.1, 1.0)
"""Least and most seconds from a fork to the child's first poll, after its other fork hooks; siblings spread."""

Callback = Callable[[DynamicRules | None, DynamicRules], None]
"""Takes the rules that were in force for this subscriber before, None for none, and those that are now."""


@dataclass(eq=False, slots=True)
class _Subscriber:
    """Somebody who enforces rules, and those that it was told last."""

    callback: Callback
    interval: float | None
    told: DynamicRules | None = field(default=None)


class RulesClient:
    """Polls one destination's rules, and listens for them where the backend tells of changes (`RulesStream`).

    `_lock` guards `_subscribers` and the times. `_polling` is held for a
    whole poll, so that there is one at a time, `_taking` while what is known
    changes, and `_telling` while subscribers are told, so that each sees every
    change in order; requests are made and callbacks run outside of `_lock` and
    of `_taking`. `_known` is replaced as a whole and read without a lock.

    Attributes:
        refusals: documents that were refused.
    """

    def __init__(
        self,
        link: LinkSource,
        directory: Callable[[], Path | None],
        *,
        control: Control = RULES,
        stream_control: Control | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Make a client; nothing is read and nobody is asked yet.

        Args:
            link: returns where rules come from now, None while there is nobody to ask.
            directory: returns the private state directory, None where there is none.
            control: whose thread polls while there are subscribers.
            stream_control: whose thread listens meanwhile; without one nobody listens.
            now: Unix seconds, for `expires_at`.
            monotonic: seconds, for the times of polls.
            uniform: the source of jitter.
        """
        self._link = link
        self._directory = directory
        self._control = control
        self._stream_control = stream_control
        self._stream = RulesStream(self, monotonic=monotonic, uniform=uniform)
        self._unkept: KeptRules | None = None  # taken over, and not kept yet
        self._heard = 0  # documents that came on the stream
        self.refusals = Refusals()
        self._now = now
        self._monotonic = monotonic
        self._uniform = uniform
        self._subscribers: list[_Subscriber] = []
        self._known: Known | None = None
        self._destination: str | None = None
        self._changes = 0  # how often the settings have changed
        self._next_poll = 0.0
        self.due_at = 0.0
        self.starts_in_child = False
        self._reset_locks()

    def _reset_locks(self) -> None:
        self._lock = threading.Lock()
        self._polling = threading.Lock()
        self._taking = threading.Lock()
        self._telling = threading.Lock()

    def current(self) -> DynamicRules | None:
        """Return the rules that are in force, None where there are none."""
        known = self._known
        return None if known is None or known.expired(self._now()) else known.rules

    def subscribe(self, callback: Callback, interval: float | None = None) -> Callable[[], None]:
        """Have `callback` told of the rules that are in force, and of every change; return what ends that.

        It is called on the control's thread; one that raises is logged, and
        doesn't keep the others from being told. Rules that expire are
        followed by empty ones.

        Args:
            callback: takes the old rules (None at first) and the new ones.
            interval: seconds between two polls at most, at least 1; None leaves it to the others, and to the backend
                where all do: its `ttl`, up to 300, and 30 where it sends none.
        """
        subscriber = _Subscriber(callback, interval)
        self._load()
        with self._lock:
            self._subscribers.append(subscriber)
            self.starts_in_child = True
            if interval is not None:
                # The pause that is under way may be longer than the new one.
                self._next_poll = min(self._next_poll, self._monotonic() + interval)
            self.due_at = 0.0
        self._control.add(self)
        self._control.wake()
        self._listen(True)

        def unsubscribe() -> None:
            with self._lock:
                if subscriber in self._subscribers:
                    self._subscribers.remove(subscriber)
                self.starts_in_child = goes_on = bool(self._subscribers)
            if not goes_on:
                self._control.remove(self)
                self._listen(False)

        return unsubscribe

    def _listen(self, wanted: bool) -> None:
        if self._stream_control is None:
            return
        self._stream.starts_in_child = wanted
        if wanted:
            self._stream.hurry()
            self._stream_control.add(self._stream)
        else:
            self._stream_control.remove(self._stream)

    def settings_changed(self) -> None:
        """Poll soon: there may be another destination, or a key where there was none."""
        with self._lock:
            self._changes += 1
            self._next_poll = self.due_at = 0.0
        self._control.wake()
        if self._stream_control is not None:
            self._stream.hurry()
            self._stream_control.wake()

    def refresh(self, timeout: float) -> DynamicRules | None:
        """Poll now, for at most `timeout` seconds, and return the rules that are in force then."""
        deadline = self._monotonic() + timeout
        self._load()
        if self._polling.acquire(timeout=max(0.0, timeout)):
            try:
                if (left := deadline - self._monotonic()) > 0:
                    with suppress_instrumentation():
                        self._poll(left)
            finally:
                self._polling.release()
        with self._lock:
            self.due_at = 0.0
        self._control.wake()
        return self.current()

    def run(self) -> None:
        """Poll if it is time to, tell the subscribers what has changed, and say when there is something to do again."""
        # First what is known already: a backend that hangs must not leave a restarted process without rules.
        self._tell()
        if self._monotonic() >= self._next_poll:
            with self._polling:
                self._poll(CALL_SECONDS)
        with self._lock:
            # Before telling: whoever subscribes after this sets it to now again.
            self.due_at = min(self._next_poll, self._expiry())
        self._tell()

    def after_fork_in_child(self) -> None:
        """Begin anew in a forked child: what is known stays known."""
        self._reset_locks()
        self._next_poll = self.due_at = self._monotonic() + self._uniform(*CHILD_PAUSE)

    def _poll(self, timeout: float) -> None:
        """Ask once, and say when to ask again. The caller holds `_polling`."""
        changes = self._changes
        next_poll = self._ask(timeout)
        self._keep()
        with self._lock:
            self._next_poll = next_poll if changes == self._changes else 0.0

    def _ask(self, timeout: float) -> float:
        """Ask once; return the monotonic time of the next poll."""
        link = self._link()
        if link is None:
            # Nobody to ask until settings change.
            return float("inf")
        etag, heard = self.known_tag(link), self._heard
        link.route.begin(time.monotonic())
        answer = link.transport.fetch_rules(etag, min(timeout, CALL_SECONDS))
        link.route.settle(answer.outcome, time.monotonic())
        failed = answer.outcome.verdict is not Verdict.ACCEPTED
        if not failed and answer.document is None:
            link.route.complaint = None
        elif not failed and answer.document is not None:
            with self._taking:
                # What the stream has brought since the question was asked is later than the answer.
                if heard == self._heard and link.destination == self._destination:
                    self._take(link, answer.document, answer.etag, answer.proof)
        elif answer.outcome.status == 200 or answer.outcome.verdict in (Verdict.REFUSED, Verdict.TOO_LARGE):
            # It has answered, with something that is of no use; whatever else failed, the route says.
            why = answer.outcome.text
            if answer.outcome.status == 200:
                why = str(self.refusals.counted(RefusedDocument("malformed", why), link.destination))
            self._complain(link, why)
        return self._after(link, failed)

    def _after(self, link: Link, failed: bool) -> float:
        """Return the monotonic time of the next poll."""
        interval = self._interval()
        if failed:
            ready_in = link.route.ready_at(time.monotonic()) - time.monotonic()
            return self._monotonic() + max(ready_in, self._uniform(0.5, 1.0) * min(interval, RETRY_INTERVAL))
        if self._stream.is_live(link):
            interval = max(interval, STREAMED_INTERVAL)
        # A part of it is jitter, so that a fleet that was started together doesn't ask together.
        return self._monotonic() + self._uniform(0.8, 1.0) * interval

    def _interval(self) -> float:
        """Return the shortest of what subscribers and the backend say, in seconds."""
        rules = None if self._known is None else self._known.rules
        backend = None
        if rules is not None and "ttl" in rules.model_fields_set:
            backend = min(float(rules.ttl), LONGEST_INTERVAL)
        usual = DEFAULT_INTERVAL if backend is None else backend
        with self._lock:
            wanted = [usual if s.interval is None else s.interval for s in self._subscribers]
        if backend is not None:
            wanted.append(backend)
        return max(MIN_INTERVAL, min(wanted, default=usual))

    def _expiry(self) -> float:
        """Return the monotonic time at which the rules in force expire."""
        known = self._known
        if known is None or known.expired(self._now()):
            return float("inf")
        return self._monotonic() + known.expires_at - self._now()

    def _load(self) -> None:
        """Take up what an earlier process has kept."""
        link = self._link()
        if link is not None:
            self.known_tag(link)

    def known_tag(self, link: Link) -> str | None:
        """Return the ETag of the rules that are known of a link's destination, after taking up what was kept of it."""
        with self._taking:
            self._settle_on(link)
            return None if self._known is None else self._known.etag

    def _settle_on(self, link: Link) -> None:
        """Begin with what was kept for a destination if it is another than before. The caller holds `_taking`."""
        if link.destination == self._destination:
            return
        self._destination, self._unkept = link.destination, None
        kept = read_rules(self._directory(), link.destination)
        try:
            self._known = None if kept is None else self._read(link, kept, signed_before=False)
        except ValueError as error:
            _logger.warning("the dynamic rules of the last run can't be used, going on without them: %s", error)
            self._known = None

    def wanted(self) -> Link | None:
        """Return where rules are to be heard from, None while nobody wants them (`stream.Listener`)."""
        return self._link() if self.starts_in_child else None

    def hear(self, link: Link, document: bytes, tag: str, proof: Proof | None) -> bool:
        """Take over what the backend tells, and tell the subscribers; return whether it can be used."""
        with self._taking:
            if link != self._link() or link.destination != self._destination:
                return True  # another transport or destination has been set since, which ends the connection
            self._heard += 1
            taken = self._take(link, document, tag or None, proof)
        if taken:
            self._tell()
            self._keep()
            with self._lock:
                # They may expire sooner; and polls find less from now on.
                self._next_poll = self._monotonic() + self._uniform(0.8, 1.0) * STREAMED_INTERVAL
                self.due_at = 0.0
            self._control.wake()
        return taken

    def lost(self) -> None:
        """Poll as usual again: the stream has ended (`stream.Listener`)."""
        interval = self._interval()
        with self._lock:
            soon = self._monotonic() + self._uniform(0.0, 1.0) * interval
            self._next_poll = min(self._next_poll, soon)
            self.due_at = 0.0
        self._control.wake()

    def _take(self, link: Link, document: bytes, etag: str | None, proof: Proof | None) -> bool:
        """Take over what the backend serves, whatever its version says: it may have gone back to an older one.

        The caller holds `_taking`. It returns whether the document can be used.
        """
        before, kept = self._known, KeptRules(document, etag, proof)
        try:
            known = self._read(link, kept, signed_before=before is not None and before.proof is not None)
        except ValueError as error:
            self._complain(link, str(error))
            return False
        link.route.complaint = None
        if before is not None and before.content == known.content:
            # The same rules, only dated anew: the subscribers keep what they were told.
            known = replace(known, rules=before.rules, content=before.content)
        self._known = known
        if known != before:
            self._unkept = kept
        return True

    def _keep(self) -> None:
        """Keep what was taken over for the next start; after the subscribers were told, who wait for nothing else."""
        with self._taking:
            kept, self._unkept = self._unkept, None
            if kept is not None and self._destination is not None:
                write_rules(self._directory(), self._destination, kept)

    def _read(self, link: Link, found: KeptRules, *, signed_before: bool) -> Known:
        """Check that a document is to be trusted, and read it.

        Raises:
            RefusedDocument: it is not, or can't be used.
        """
        proof = found.proof if link.trust.secret is not None else None
        try:
            link.trust.check(found.document, proof, signed_before, self.refusals.answered)
            known = read_document(found.document, found.etag, proof)
        except RefusedDocument as refusal:
            raise self.refusals.counted(refusal, link.destination) from None
        self.refusals.believed(proof)
        return known

    def _complain(self, link: Link, why: str) -> None:
        if link.route.complaint is None:
            _logger.warning("the backend's dynamic rules can't be used, the last ones stay in force: %s", why)
        link.route.complaint = why

    def _tell(self) -> None:
        with self._telling:
            with self._lock:
                subscribers = list(self._subscribers)
            rules = self.current()
            for subscriber in subscribers:
                # None and empty rules mean the same to somebody who has been told nothing yet.
                if subscriber.told is rules:
                    continue
                old, subscriber.told = subscriber.told, rules
                try:
                    subscriber.callback(old, DynamicRules() if rules is None else rules)
                except Exception as error:  # noqa: BLE001  it is the application's code
                    _logger.error("a callback for dynamic rules failed: %s", privacy.told(error))
