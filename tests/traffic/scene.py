"""One actor among ordinary people, before an application that is watched by one process or by several.

The requests go through what judges them in an application (`AnswerJudge` with an analyzer behind it), on a clock that
is part of the traffic. What counts as found is any event but those that the status of a single answer makes.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote

from opentelemetry import trace

from opentelemetry_guard.emit import Emitter
from opentelemetry_guard.instrumentation.behavior.analyzer import BehaviorAnalyzer
from opentelemetry_guard.instrumentation.behavior.sharing import Sharing
from opentelemetry_guard.instrumentation.behavior.stores import Claim, Claimed, Row, Store, Total
from opentelemetry_guard.instrumentation.http.following import FollowedRequest, ReportedLogin
from opentelemetry_guard.instrumentation.http.judging import AnswerJudge
from opentelemetry_guard.settings.behavior_rules import Profile
from opentelemetry_guard.settings.instrumentation import GuardOptions

from .asking import Actor, Sent
from .ordinary import ordinary

EPOCH = 1_800_000_000.0
_ROUND = 4_600
"""Seconds of what ordinary people do; who is longer there sees it again."""
_SPAN = trace.INVALID_SPAN
_OF_ONE_ANSWER = ("statuses", "logins")
"""Rules of which each answer makes an event, whoever has sent the request."""


class Followed:
    """A request whose answer has begun, as `FollowedRequest` tells it."""

    __slots__ = (
        "body",
        "duration",
        "events",
        "guarded",
        "login",
        "measured_by_http",
        "method",
        "path",
        "route",
        "scope",
        "server_span",
        "status_code",
    )

    def __init__(self, sent: Sent) -> None:
        headers = [(b"user-agent", sent.agent.encode())]
        if sent.credentials:
            headers.append((b"authorization", sent.credentials.encode()))
        if sent.api_key:
            headers.append((b"x-api-key", sent.api_key.encode()))
        self.scope = {
            "type": "http",
            "client": (sent.address, 40_000),
            "method": sent.method,
            "path": sent.path,
            "raw_path": quote(sent.path, safe="/%").encode(),
            "query_string": sent.query.encode(),
            "headers": headers,
        }
        self.body = None
        self.method = sent.method
        self.path = sent.path
        self.route = sent.route
        self.status_code = sent.status
        self.duration = 0.01
        self.guarded = self.measured_by_http = False
        self.server_span = _SPAN if sent.user is None else _Named({"enduser.id": sent.user})
        self.events: list[Mapping[str, object]] = []
        self.login = None if sent.login is None else ReportedLogin(sent.login[1], sent.login[0])


@dataclass
class _Named:
    attributes: dict[str, str]


@dataclass
class Told:
    """What was told, and when."""

    at: float
    event: dict[str, Any]

    @property
    def rule(self) -> str:
        return str(self.event.get("rule_type"))

    @property
    def pattern(self) -> str:
        """Which detector or rule has found it."""
        metadata = self.event.get("metadata") or {}
        return str(metadata.get("pattern") or self.rule)


class Kept(Emitter):
    """Keeps events instead of emitting them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.told: list[Told] = []

    def emit_event(self, event: Any = None, /, **fields: object) -> None:
        found = {**(event or {}), **fields}
        metadata = cast(Mapping[str, object], found.get("metadata") or {})
        if found.get("rule_type") not in _OF_ONE_ANSWER or "guesses" in metadata:
            self.told.append(Told(self.now, found))

    def count_request(self, *given: object, **named: object) -> None:
        pass

    def record_metric(self, metric: Any = None, /, **fields: object) -> None:
        pass


@dataclass
class Outcome:
    """What came of an actor.

    Attributes:
        found: what was told of it, or of the application while it was there.
        innocent: what was told of ordinary people.
        began: when the actor did.
    """

    began: float
    found: list[Told] = field(default_factory=list)
    innocent: list[Told] = field(default_factory=list)

    @property
    def seconds(self) -> float | None:
        """How long it took to find it, None where it was not."""
        return self.found[0].at - self.began if self.found else None

    @property
    def patterns(self) -> list[str]:
        return list(dict.fromkeys(told.pattern for told in self.found))


@functools.lru_cache(maxsize=2)
def _ordinary(seed: int) -> list[tuple[float, Followed]]:
    return [(each.at, Followed(each)) for each in ordinary(random.Random(f"ordinary {seed}"), _ROUND)]


def _background(seed: int, until: float) -> Iterator[tuple[float, Followed]]:
    """Yield what ordinary people send; they begin again where their round ends."""
    for start in itertools.count(0, _ROUND):
        for at, followed in _ordinary(seed):
            if start + at >= until:
                return
            yield start + at, followed


class Stepped(Sharing):
    """Shares when it is told to, instead of in a thread."""

    def _start(self) -> None:
        pass


class CommonMemory:
    """A store as processes share one, in memory and on the clock of the traffic."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Total] = {}
        self.claims: dict[bytes, tuple[str, int, float, float, int]] = {}
        self.text: bytes | None = None
        self.now = 0.0

    def secret(self) -> bytes:
        return b"secret"

    def exchange(self, rows: Sequence[Row]) -> list[tuple[Total, Total | None]]:
        found = []
        for row in rows:
            nothing = Total((0,) * len(row.counts), 0)
            known = self.rows.get(row.name, nothing)
            total = Total(tuple(map(sum, zip(known.counts, row.counts, strict=True))), known.bits | row.bits)
            self.rows[row.name] = total
            found.append((total, None if row.before is None else self.rows.get(row.before, nothing)))
        return found

    def claim(self, claims: Sequence[Claim]) -> list[Claimed | None]:
        return [self._claimed(claim) for claim in claims]

    def _claimed(self, claim: Claim) -> Claimed | None:
        name, number, following, until, told = self.claims.get(claim.key, (claim.name, -1, 0.0, 0.0, 0))
        if self.now >= until:
            name, number, told = claim.name, -1, 0
        elif self.now < following and told & claim.bit:
            return None
        until, told = self.now + claim.seconds, told | claim.explains
        self.claims[claim.key] = (name, number + 1, self.now + claim.pause, until, told)
        return Claimed(name, number + 1)

    def keep(self, text: bytes) -> None:
        self.text = text

    def kept(self) -> bytes | None:
        return self.text

    def close(self) -> None:
        pass


class Fleet:
    """The processes that answer: each has an analyzer of its own, and they may share what they count."""

    def __init__(self, workers: int, store: Store | None = None, profile: Profile = "balanced") -> None:
        self.kept = Kept()
        self._store = store
        self._clock = self._stepped = 0.0
        self.analyzers = [BehaviorAnalyzer(profile=profile, epoch=EPOCH) for _ in range(workers)]
        self.sharings: list[Sharing] = []
        watching: list[Any] = list(self.analyzers)
        if store is not None:
            watching = self.sharings = [
                Stepped(each, lambda: "here", self.kept.emit_event, open_store=lambda _: store)
                for each in self.analyzers
            ]
        self._judges = [AnswerJudge(GuardOptions(), self.kept, each, lambda: self._clock) for each in watching]

    def answer(self, worker: int, followed: Followed, at: float) -> None:
        """Have one process answer a request; those that share do it about once a second."""
        self.advance(at)
        self._judges[worker](cast(FollowedRequest, followed))

    def advance(self, at: float) -> None:
        """Let time pass."""
        self._clock = self.kept.now = at
        if at >= self._stepped + 1:
            self._stepped = at
            if isinstance(self._store, CommonMemory):
                self._store.now = at
            for sharing in self.sharings:
                sharing.step(at)


def play(actor: Actor, seed: int, fleet: Fleet) -> Outcome:
    """Return what comes of an actor among ordinary people."""
    workers = len(fleet.analyzers)
    start, until = actor.warm_up, actor.warm_up + actor.seconds
    chance = random.Random(f"{type(actor).__name__} {seed}")
    sent = list(actor.requests(chance))
    own = ((start + each.at, Followed(each)) for each in sent)
    theirs = {each.address for each in sent}
    for at, followed in heapq.merge(_background(seed, until), own, key=lambda one: one[0]):
        fleet.answer(chance.randrange(workers) if workers > 1 else 0, followed, at)
    for rest in range(2):
        fleet.advance(until + 10 * rest)
    outcome = Outcome(start)
    for told in fleet.kept.told:
        metadata = told.event.get("metadata") or {}
        is_its = told.event.get("ip_address") in theirs or metadata.get("client") == "application"
        (outcome.found if is_its else outcome.innocent).append(told)
    return outcome


def names(actors: Sequence[type[Actor]]) -> list[str]:
    """Return the actors' names."""
    return [actor.name() for actor in actors]
