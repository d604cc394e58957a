"""What one client looks for: paths that don't exist or are closed, and objects of a route, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ...settings.behavior_rules import Enumeration, Scanning
from .sightings import (
    DAY,
    ENUMERATION,
    HARVEST,
    KEYS,
    MISSING,
    REFUSED,
    SCANNING,
    Explanation,
    Finding,
    Sighting,
    least,
    suspects,
)
from .sliding import Clock, Share, Table, Windows

_PLACES = 4096
"""Resources on which somebody failed that are remembered."""

_HEADS_PER_BUDGET = 4
"""Clients behind one address, told apart by user agent, for which it gets one budget more."""
_BUDGETS = 8
_MAP = 1024
_LATEST = 128
_FEW = 5
_MINUTE = 60.0


class Alike:
    """On which resources many addresses fail at the same time: pages of the last release, a link that is wrong."""

    def __init__(self, rule: Scanning, clock: Clock) -> None:
        self._least = least(rule.alike)
        self._table = Table(_PLACES)
        self._windows = Windows(self._table, clock.beat(rule.slow_window))
        self._addresses = self._windows.distinct(64)

    def add(self, place: int, address: int) -> bool:
        """Note who failed where, and return whether many have."""
        row = self._table.row(place.to_bytes(4, "big"))
        self._windows.turn(row)
        self._addresses.add(row, address)
        return self._addresses.at_most(row) >= self._least and self._addresses.value(row) >= self._least


class ScanDetector:
    """Many distinct resources that don't exist or are closed; a client has no row before its first."""

    def __init__(self, rule: Scanning, clock: Clock, max_clients: int, requests: Callable[[bytes], float]) -> None:
        """Build a detector that knows nobody; `requests` tells how many a client has sent within the last minute."""
        self._rule = rule
        self._requests = requests
        self._slow_threshold = max(rule.slow_paths, rule.paths)
        self.table = Table(suspects(max_clients))
        self.suspects = self.table.keys
        self.windows = Windows(self.table, clock.beat(rule.window))
        self._missing = self.windows.count()
        self._places = self.windows.distinct()
        self.slow_windows = Windows(self.table, clock.beat(rule.slow_window))
        self.all_windows = (self.windows, self.slow_windows)
        self._slow_missing = self.slow_windows.count()
        self._slow_places = self.slow_windows.distinct()
        self._heads = self.slow_windows.distinct(64)

    def judge(self, key: bytes, seen: Sighting) -> Finding | None:
        """Count a failure and say whether the client is conspicuous with it."""
        rule = self._rule
        if seen.alike or seen.status not in rule.statuses or (seen.thing and seen.status == 404):
            return None
        row = self.table.row(key)
        self.windows.turn(row)
        self.slow_windows.turn(row)
        self._missing.current[row] += 1
        self._slow_missing.current[row] += 1
        self._places.add(row, seen.place)
        self._slow_places.add(row, seen.place)
        self._heads.add(row, seen.head)
        fast, slow = self._places, self._slow_places
        if fast.at_most(row) < least(rule.paths) and slow.at_most(row) < least(self._slow_threshold):
            return None
        budgets = budget(self._heads.value(row))
        # As if the client had done all the time what it did in the last minute.
        others = max(self._requests(key) - self._missing.value(row), 0.0) / _MINUTE
        looks = (fast, rule.paths, rule.window), (slow, self._slow_threshold, rule.slow_window)
        for places, threshold, window in looks:
            allowed = threshold * budgets
            if places.value(row) >= least(allowed + min(rule.per_request * others * window, allowed)):
                return Finding(SCANNING, "", partial(self._explain, row, places is slow))
        return None

    def _explain(self, row: int, is_slow: bool) -> Explanation:
        rule = self._rule
        window = rule.slow_window if is_slow else rule.window
        places = (self._slow_places if is_slow else self._places).value(row)
        missing = (self._slow_missing if is_slow else self._missing).value(row)
        return Explanation(
            f"about {places:.0f} paths that don't exist or are closed were asked for within {window:g} s",
            {
                "window": window,
                "count": round(missing),
                "distinct_paths": round(places),
                "clients": round(self._heads.value(row)),
                "threshold": self._slow_threshold if is_slow else rule.paths,
            },
        )


class EnumerationDetector:
    """What a client tries one after the other: objects that are missing or closed, or an endless row of those that are
    there; keys and tokens; and whatever else an application refuses to take.
    """

    def __init__(self, rule: Enumeration, clock: Clock, max_clients: int) -> None:
        self._rule = rule
        self._slow_threshold = max(rule.slow_objects, rule.objects)
        self.table = Table(suspects(max_clients))
        self.suspects = self.table.keys
        self.windows = Windows(self.table, clock.beat(rule.window))
        self._objects = self.windows.distinct(_MAP)
        self._found = self.windows.distinct(_MAP)
        self._views = self.windows.count()
        self._refused = self.windows.count()
        self._keys = self.windows.distinct()
        self.slow_windows = Windows(self.table, clock.beat(rule.slow_window))
        self._slow_objects = self.slow_windows.distinct(_MAP)
        self._heads = self.slow_windows.distinct(64)
        self.day_windows = Windows(self.table, clock.beat(DAY))
        self._day_objects = self.day_windows.distinct(_MAP)
        self.all_windows = (self.windows, self.slow_windows, self.day_windows)
        self._share = Share(self.table, _LATEST)

    def concerns(self, seen: Sighting) -> bool:
        """Whether a request is one of those that are counted."""
        return self._is_missing(seen) or self._is_refused(seen) or self._is_key(seen)

    def judge(self, key: bytes, seen: Sighting) -> Finding | None:
        """Count a request and say whether the client is conspicuous with it."""
        tries = self.concerns(seen)
        row = self.table.row(key) if tries else self.table.find(key)
        if row is None:
            return None
        self._share.add(row, tries)
        if not tries:
            return None
        for windows in self.all_windows:
            windows.turn(row)
        self._heads.add(row, seen.head)
        return self._missed(row, seen) or self._guessed(row, seen)

    def is_mostly_missing(self, key: bytes) -> bool:
        """Whether a client, after `judge`, hardly finds what it looks for."""
        row = self.table.peek(key)
        return (
            row is not None
            and self._slow_objects.at_most(row) >= _FEW
            and self._share.value[row] >= self._rule.slow_share
        )

    def _is_missing(self, seen: Sighting) -> bool:
        return seen.thing != 0 and seen.status in self._rule.statuses

    def _is_refused(self, seen: Sighting) -> bool:
        return seen.submits and not (seen.is_login or seen.alike) and seen.status in self._rule.refusals

    @staticmethod
    def _is_key(seen: Sighting) -> bool:
        return seen.credentials != 0 and not seen.failed_login

    def _missed(self, row: int, seen: Sighting) -> Finding | None:
        if not self._is_missing(seen):
            return None
        rule = self._rule
        self._objects.add(row, seen.thing)
        self._slow_objects.add(row, seen.thing)
        self._day_objects.add(row, seen.thing)
        looks = (
            (self._objects, rule.objects, rule.window, rule.share),
            (self._slow_objects, self._slow_threshold, rule.slow_window, rule.slow_share),
            (self._day_objects, rule.day_objects, DAY, rule.slow_share),
        )
        for objects, threshold, window, share in looks:
            if objects.at_most(row) < least(threshold) or self._share.value[row] < share:
                continue
            number = objects.value(row)
            if number >= least(threshold * budget(self._heads.value(row))):
                return Finding(ENUMERATION, MISSING, partial(self._explain, number, window, threshold))
        return None

    def _guessed(self, row: int, seen: Sighting) -> Finding | None:
        rule = self._rule
        if self._is_refused(seen):
            self._refused.current[row] += 1
        if self._is_key(seen):
            self._keys.add(row, seen.credentials)
        if self._share.value[row] < rule.refused_share:
            return None
        budgets = budget(self._heads.value(row))
        evidence: dict[str, object]
        if self._is_key(seen) and (keys := self._keys.value(row)) >= least(rule.keys * budgets):
            reason = f"about {keys:.0f} different tokens or keys were refused within {rule.window:g} s"
            evidence = {"window": rule.window, "count": round(keys), "threshold": rule.keys}
            return Finding(ENUMERATION, KEYS, partial(Explanation, reason, evidence))
        if self._is_refused(seen) and (refused := self._refused.value(row)) >= least(rule.refused * budgets):
            reason = f"{refused:.0f} submissions were refused within {rule.window:g} s, and hardly anything else"
            evidence = {"window": rule.window, "count": round(refused), "threshold": rule.refused}
            return Finding(ENUMERATION, REFUSED, partial(Explanation, reason, evidence))
        return None

    def found(self, key: bytes, thing: int, heads: float) -> Finding | None:
        """Count an object that was found by a client which asks much, and say whether it reads all that there is."""
        rule = self._rule
        row = self.table.row(key)
        self.windows.turn(row)
        self._found.add(row, thing)
        self._views.current[row] += 1
        if self._found.at_most(row) < least(rule.found):
            return None
        objects = self._found.value(row)
        if objects < least(rule.found * budget(heads)) or objects < rule.once * self._views.value(row):
            return None
        return Finding(ENUMERATION, HARVEST, partial(self._explain, objects, rule.window, rule.found))

    @staticmethod
    def _explain(objects: float, window: float, threshold: int) -> Explanation:
        return Explanation(
            f"about {objects:.0f} objects were asked for one by one within {window:g} s",
            {"window": window, "distinct_objects": round(objects), "threshold": threshold},
        )


def budget(heads: float) -> float:
    """Return how many times what one client may do an address may, behind which as many are."""
    return min(max(heads / _HEADS_PER_BUDGET, 1.0), _BUDGETS)
