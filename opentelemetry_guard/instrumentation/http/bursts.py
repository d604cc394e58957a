"""Runs of 404s from one client: what is nothing by itself is a scan when there is enough of it.

Memory is bounded: a run keeps at most as many places as make a burst, and there are at most `Burst.addresses` runs.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from ...decision.addresses import subscriber
from ...settings.http_rules import Burst
from ...settings.instrumentation import DEFAULT_IPV6_PREFIX
from ..behavior.keys import fingerprint, is_asset, kind, resource
from .answers import AnsweredRequest, Finding


class NotFoundBursts:
    """Counts the 404s of each client (`addresses.subscriber`) within a sliding window.

    The lock guards the dictionary and what is in it; it is held for one
    address's few numbers, and applications with several event loops share it.
    """

    def __init__(self, burst: Burst, ipv6_prefix: int = DEFAULT_IPV6_PREFIX) -> None:
        self._burst = burst
        self._ipv6_prefix = ipv6_prefix
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, _Run] = OrderedDict()

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
            silent, run.silent, run.quiet_until = run.silent, 0, now + burst.cool_down
            distinct = len(run.places)
            number = max(run.number, distinct)
        return Finding(
            "suspicious_request",
            "not_found_burst",
            f"{number} answers of 404 in a burst",
            {"count": number, "distinct_paths": distinct, "window": burst.seconds, "not_told": silent},
        )


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
