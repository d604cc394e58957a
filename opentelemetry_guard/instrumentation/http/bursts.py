"""Runs of 404s from one client: what is nothing by itself is a scan when there is enough of it.

Clients that miss the same things are one burst, and with enough of them it is a mistake of the application's: apps that
were not updated ask for an interface which has another name. Memory is bounded: a run keeps at most as many places as
make a burst, there are at most `Burst.addresses` runs, and `MOST_ALIKE` bursts with which others are compared.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ...decision.addresses import subscriber
from ...settings.http_rules import Burst
from ...settings.instrumentation import DEFAULT_IPV6_PREFIX
from ..behavior.keys import fingerprint, is_asset, kind, resource
from .answers import AnsweredRequest, Finding

MOST_ALIKE = 64
_ALIKE_SECONDS = 3600.0
"""How long it is remembered what a burst was about, since the last one like it."""


class NotFoundBursts:
    """Counts the 404s of each client (`addresses.subscriber`) within a sliding window.

    The lock guards the dictionary and what is in it; it is held for one
    address's few numbers, and applications with several event loops share it.
    """

    def __init__(
        self,
        burst: Burst,
        ipv6_prefix: int = DEFAULT_IPV6_PREFIX,
        requests: Callable[[str], float] | None = None,
    ) -> None:
        """Build what has seen nobody.

        Args:
            burst: when answers are one.
            ipv6_prefix: bits of an IPv6 address that tell one client from another.
            requests: tells how many requests an address has sent within the last minute; None where nobody counts.
        """
        self._burst = burst
        self._requests = requests
        self._ipv6_prefix = ipv6_prefix
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, _Run] = OrderedDict()
        self._told: deque[_Told] = deque(maxlen=MOST_ALIKE)

    def observe(self, answered: AnsweredRequest, now: float) -> Finding | None:
        """Take one 404.

        Args:
            answered: the request; without an address nobody can be told from another, so nothing is counted.
            now: seconds on a clock that never goes back.
        """
        address = subscriber(answered.address, self._ipv6_prefix)
        if not address:
            return None
        burst = self._burst
        place = fingerprint(kind(resource(answered.route, answered.path)))
        with self._lock:
            run = self._seen.get(address)
            if run is None:
                run = self._seen[address] = _Run(now)
                if len(self._seen) > burst.addresses:
                    self._seen.popitem(last=False)
            else:
                self._seen.move_to_end(address)
            run.add(place, not is_asset(answered.path), now, burst)
            if now < run.quiet_until:
                run.silent += 1
                return None
            if len(run.places) < burst.count and run.number < burst.requests:
                return None
            distinct = len(run.places)
            number = max(run.number, distinct)
            if self._requests is not None and number < burst.share * self._requests(answered.address):
                return None
            silent, run.silent, run.quiet_until = run.silent, 0, now + burst.cool_down
            others = self._others(address, run, now)
        if others is None:
            return None
        return Finding(
            "suspicious_request",
            "not_found_burst",
            f"{number} answers of 404 in a burst",
            {
                **{"count": number, "distinct_paths": distinct, "window": burst.seconds, "not_told": silent},
                **({"alike": others} if others else {}),
            },
        )

    def _others(self, address: str, run: _Run, now: float) -> int | None:
        """Return how many other clients miss the same things as one with a burst, None where that is known already."""
        told = next((each for each in self._told if each.is_like(run, now)), None)
        if told is None:
            self._told.append(_Told(frozenset(run.places), {address}, now, now + self._burst.cool_down))
            return 0
        told.seen = now
        if len(told.clients) < self._burst.alike:
            told.clients.add(address)
        if len(told.clients) >= self._burst.alike or now < told.quiet_until:
            return None
        told.quiet_until = now + self._burst.cool_down
        return len(told.clients - {address})


@dataclass(slots=True)
class _Told:
    """What a burst was about, whose bursts are about the same, when the latest was, and until when none is told."""

    places: frozenset[int]
    clients: set[str]
    seen: float
    quiet_until: float

    def is_like(self, run: _Run, now: float) -> bool:
        """Whether at least half of what a client misses is the same."""
        return now - self.seen <= _ALIKE_SECONDS and 2 * len(self.places & run.places.keys()) >= len(run.places)


@dataclass(slots=True)
class _Run:
    """The 404s of an address since it `began`, the end of its cool-down, and how many it has had during that.

    `places` has when each of the latest different resources was asked for, the one that was longest ago first.
    """

    began: float
    number: int = 0
    places: dict[int, float] = field(default_factory=dict)
    quiet_until: float = -math.inf
    silent: int = 0

    def add(self, place: int, counts: bool, now: float, burst: Burst) -> None:
        """Take one 404, and forget what lies before the window."""
        self.places.pop(place, None)
        self.places[place] = now
        while len(self.places) > burst.count or now - next(iter(self.places.values())) > burst.seconds:
            del self.places[next(iter(self.places))]
        if now - self.began > burst.seconds:
            self.began, self.number = now, 0
        self.number += counts
