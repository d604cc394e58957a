"""What one client looks for: paths that don't exist or are closed, and objects of a route, one after the other."""

from __future__ import annotations

from functools import partial

from ...settings.behavior_rules import Enumeration, Scanning
from .sightings import (
    ENUMERATION,
    HARVEST,
    MISSING,
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

    def __init__(self, rule: Scanning, clock: Clock, max_clients: int) -> None:
        self._rule = rule
        self._slow_threshold = max(rule.slow_paths, rule.paths)
        self.table = Table(suspects(max_clients))
        self.suspects = self.table.keys
        self.windows = Windows(self.table, clock.beat(rule.window))
        self._missing = self.windows.count()
        self._places = self.windows.distinct()
        self.slow_windows = Windows(self.table, clock.beat(rule.slow_window))
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
        if fast.value(row) >= least(rule.paths * budgets):
            return Finding(SCANNING, "", partial(self._explain, row, False))
        if slow.value(row) >= least(self._slow_threshold * budgets):
            return Finding(SCANNING, "", partial(self._explain, row, True))
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
    """Many distinct objects of a route that are missing, or an endless row of those that are there."""

    def __init__(self, rule: Enumeration, clock: Clock, max_clients: int) -> None:
        self._rule = rule
        self._slow_threshold = max(rule.slow_objects, rule.objects)
        self.table = Table(suspects(max_clients))
        self.suspects = self.table.keys
        self.windows = Windows(self.table, clock.beat(rule.window))
        self._objects = self.windows.distinct(_MAP)
        self._found = self.windows.distinct(_MAP)
        self.slow_windows = Windows(self.table, clock.beat(rule.slow_window))
        self._slow_objects = self.slow_windows.distinct(_MAP)
        self._heads = self.slow_windows.distinct(64)
        self._share = Share(self.table)

    def judge(self, key: bytes, seen: Sighting) -> Finding | None:
        """Count a request and say whether the client is conspicuous with it."""
        missing = seen.status == 404 and seen.thing != 0
        row = self.table.row(key) if missing else self.table.find(key)
        if row is None:
            return None
        self._share.add(row, missing)
        if not missing:
            return None
        rule = self._rule
        self.windows.turn(row)
        self.slow_windows.turn(row)
        self._objects.add(row, seen.thing)
        self._slow_objects.add(row, seen.thing)
        self._heads.add(row, seen.head)
        fast, slow = self._objects, self._slow_objects
        if fast.at_most(row) < least(rule.objects) and slow.at_most(row) < least(self._slow_threshold):
            return None
        budgets, share = budget(self._heads.value(row)), self._share.value[row]
        if share >= rule.share and fast.value(row) >= least(rule.objects * budgets):
            return Finding(ENUMERATION, MISSING, partial(self._explain, fast.value(row), rule.window, rule.objects))
        if share >= rule.slow_share and slow.value(row) >= least(self._slow_threshold * budgets):
            objects = slow.value(row)
            return Finding(
                ENUMERATION, MISSING, partial(self._explain, objects, rule.slow_window, self._slow_threshold)
            )
        return None

    def found(self, key: bytes, thing: int, heads: float) -> Finding | None:
        """Count an object that was found by a client which asks much, and say whether it reads all that there is."""
        row = self.table.row(key)
        self.windows.turn(row)
        self._found.add(row, thing)
        if self._found.at_most(row) < least(self._rule.found):
            return None
        objects = self._found.value(row)
        if objects < least(self._rule.found * budget(heads)):
            return None
        return Finding(ENUMERATION, HARVEST, partial(self._explain, objects, self._rule.window, self._rule.found))

    @staticmethod
    def _explain(objects: float, window: float, threshold: int) -> Explanation:
        return Explanation(
            f"about {objects:.0f} objects were asked for one by one within {window:g} s",
            {"window": window, "distinct_objects": round(objects), "threshold": threshold},
        )


def budget(heads: float) -> float:
    """Return how many times what one client may do an address may, behind which as many are."""
    return min(max(heads / _HEADS_PER_BUDGET, 1.0), _BUDGETS)
