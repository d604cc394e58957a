"""The application as a whole: what many addresses do at the same time, each of them too little to be conspicuous."""

from __future__ import annotations

from functools import partial

from ...settings.behavior_rules import Campaign
from .sightings import (
    CAMPAIGN,
    CAMPAIGN_FLOOD,
    CAMPAIGN_LOGINS,
    CAMPAIGN_OBJECTS,
    CAMPAIGN_PATHS,
    Explanation,
    Finding,
    Sighting,
    least,
)
from .sliding import Clock, Table, Windows
from .usual import Usual, learned, score

_MAP = 1024
_MINUTE = 60.0
_GAIN = 1 / 32
_USUAL = ("failures", "share", "slow_failures", "slow_share", "paths", "objects", "requests", "busy")

Learned = dict[str, tuple[float, float, int]]
"""What is usual, by name: mean, deviation, and how many windows it rests on."""


class CampaignDetector:
    """Failed logins, missing paths and busy clients of the whole application, against their own usual numbers.

    A window in which nothing happened counts as well: it is noticed when the next thing happens.
    """

    def __init__(self, rule: Campaign, clock: Clock) -> None:
        self.rule = rule
        usual = self._usual = {name: _Baseline() for name in _USUAL}
        self.table = Table(1)
        self._row = self.table.row(APPLICATION)
        self.windows = Windows(self.table, clock.beat(rule.window))
        self._logins = _Logins(self.windows, usual["failures"], usual["share"])
        self._missing = self.windows.count()
        self._path_sources = self.windows.distinct(_MAP)
        self._paths = self.windows.distinct(_MAP)
        self._object_sources = self.windows.distinct(_MAP)
        self._objects = self.windows.distinct(_MAP)
        self.slow_windows = Windows(self.table, clock.beat(rule.slow_window))
        self._slow_logins = _Logins(self.slow_windows, usual["slow_failures"], usual["slow_share"])
        self.all_windows = (self.windows, self.slow_windows)
        self.minutes = Windows(self.table, clock.beat(_MINUTE))
        self._requests = self.minutes.count()
        self._busy = self.minutes.distinct(_MAP)
        for windows in (*self.all_windows, self.minutes):
            windows.turn(self._row)  # the first one begins in its midst, and is no whole one

    @property
    def learned(self) -> Learned:
        """What is usual, to be kept over a restart."""
        return {name: (*baseline.usual, baseline.windows) for name, baseline in self._usual.items() if baseline.windows}

    @learned.setter
    def learned(self, kept: Learned) -> None:
        for name, (mean, deviation, windows) in kept.items():
            baseline = self._usual.get(name)
            if baseline is not None and not baseline.windows:
                baseline.usual, baseline.windows = Usual(mean, deviation), windows

    def count(self) -> None:
        """Count a request."""
        if self.minutes.are_over(self._row):
            if self._requests.completed(self._row):
                self._usual["requests"].take(self._requests.completed(self._row))
                self._usual["busy"].take(self._busy.completed(self._row))
            self.minutes.turn(self._row)
        self._requests.current[self._row] += 1

    def busy(self, address: int) -> Finding | None:
        """Note that an address is busy in this minute, and say whether that many are a flood."""
        rule, row = self.rule, self._row
        self._busy.add(row, address)
        if self._requests.at_most(row) < rule.requests or self._busy.at_most(row) < least(rule.sources):
            return None
        busy, requests = self._busy.value(row), self._requests.value(row)
        usual, usual_busy = self._usual["requests"].usual, self._usual["busy"].usual
        if (
            self._usual["requests"].windows < rule.warm_up
            or busy < least(max(rule.sources, rule.times * usual_busy.mean))
            or requests < max(rule.requests, rule.times * usual.mean)
            or score(requests, usual) < rule.score
        ):
            return None
        return Finding(CAMPAIGN, CAMPAIGN_FLOOD, partial(self._explain_flood, requests, busy))

    def login(self, address: int, seen: Sighting) -> Finding | None:
        """Count a login, and say whether those that failed are a campaign."""
        rule, row = self.rule, self._row
        self._turn()
        for logins in (self._logins, self._slow_logins):
            logins.add(row, address, failed=seen.failed_login)
        if not seen.failed_login:
            return None
        looks = (
            (self._logins, rule.failures, rule.times, rule.window),
            (self._slow_logins, rule.slow_failures, rule.slow_times, rule.slow_window),
        )
        for logins, fewest, times, window in looks:
            if self._is_campaign(logins, fewest, times):
                return Finding(CAMPAIGN, CAMPAIGN_LOGINS, partial(self._explain_logins, logins, window))
        return None

    def _is_campaign(self, logins: _Logins, fewest: int, times: float) -> bool:
        rule, row = self.rule, self._row
        if logins.failures.at_most(row) < least(fewest) or logins.sources.at_most(row) < least(rule.sources):
            return False
        sources, failures = logins.guessing(row)
        if sources < least(rule.sources):
            return False
        expected = logins.expected(row, rule.usual_share)
        return failures >= max(least(fewest), times * expected.mean) and score(failures, expected) >= rule.score

    def missing(self, address: int, seen: Sighting) -> Finding | None:
        """Count a path that no route answers, and say whether these are a campaign."""
        rule, row = self.rule, self._row
        self._turn()
        self._missing.current[row] += 1
        self._path_sources.add(row, address)
        self._paths.add(row, seen.place)
        if (
            self._paths.at_most(row) < least(rule.paths)
            or self._path_sources.at_most(row) < least(rule.sources)
            or self._path_sources.value(row) < least(rule.sources)
        ):
            return None
        paths, usual = self._paths.value(row), self._usual["paths"].usual
        if (
            self._usual["paths"].windows < rule.warm_up
            or paths < max(least(rule.paths), rule.times * usual.mean)
            or score(paths, usual) < rule.score
        ):
            return None
        return Finding(CAMPAIGN, CAMPAIGN_PATHS, partial(self._explain_paths, paths, usual.mean))

    def missing_object(self, address: int, seen: Sighting) -> Finding | None:
        """Count a missing object of a client that finds hardly any, and say whether these are a campaign."""
        rule, row = self.rule, self._row
        self._turn()
        self._object_sources.add(row, address)
        self._objects.add(row, seen.thing)
        if self._objects.at_most(row) < least(rule.objects) or self._object_sources.value(row) < least(rule.sources):
            return None
        objects, usual = self._objects.value(row), self._usual["objects"].usual
        if (
            self._usual["objects"].windows < rule.warm_up
            or objects < max(least(rule.objects), rule.times * usual.mean)
            or score(objects, usual) < rule.score
        ):
            return None
        return Finding(CAMPAIGN, CAMPAIGN_OBJECTS, partial(self._explain_objects, objects, usual.mean))

    def _turn(self) -> None:
        row = self._row
        if self.slow_windows.are_over(row):
            self._slow_logins.learn(row)
            self.slow_windows.turn(row)
        if not self.windows.are_over(row):
            return
        self._logins.learn(row)
        self._usual["paths"].take(self._paths.completed(row))
        self._usual["objects"].take(self._objects.completed(row))
        self.windows.turn(row)

    def _explain_logins(self, logins: _Logins, window: float) -> Explanation:
        sources, failures = logins.guessing(self._row)
        expected = logins.expected(self._row, self.rule.usual_share)
        return self._explain("failed logins", failures, sources, expected.mean, window)

    def _explain_objects(self, objects: float, usual: float) -> Explanation:
        sources = self._object_sources.value(self._row)
        return self._explain("different missing objects", objects, sources, usual, self.rule.window)

    def _explain_paths(self, paths: float, usual: float) -> Explanation:
        sources = self._path_sources.value(self._row)
        return self._explain("different missing paths", paths, sources, usual, self.rule.window)

    def _explain_flood(self, requests: float, busy: float) -> Explanation:
        return self._explain("requests", requests, busy, self._usual["requests"].usual.mean, _MINUTE)

    def _explain(self, what: str, number: float, sources: float, usual: float, window: float) -> Explanation:
        return Explanation(
            f"{number:.0f} {what} from about {sources:.0f} addresses within {window:g} s, where {usual:.0f} are usual",
            {
                "window": window,
                "count": round(number),
                "distinct_addresses": round(sources),
                "application_baseline": round(usual, 1),
                "threshold": self.rule.sources,
            },
        )


class _Logins:
    """Logins within a window; who fails and comes in within it was no guesser, and its failures are left out."""

    def __init__(self, windows: Windows, guesses: _Baseline, share: _Baseline) -> None:
        self._guesses = guesses
        self._share = share
        self.failures = windows.count()
        self.successes = windows.count()
        self.sources = windows.distinct(_MAP)
        self._came_in = windows.distinct(_MAP)

    def add(self, row: int, address: int, *, failed: bool) -> None:
        """Count a login, after the windows have turned."""
        if failed:
            self.failures.current[row] += 1
            self.sources.add(row, address)
        else:
            self.successes.current[row] += 1
            if self.sources.has(row, address):
                self._came_in.add(row, address)

    def guessing(self, row: int) -> tuple[float, float]:
        """Return from how many addresses guesses come, and how many."""
        return _without(self.failures.value(row), self.sources.value(row), self._came_in.value(row))

    def expected(self, row: int, usual_share: float) -> Usual:
        """Return how many guesses are usual; in the morning more people come in, and more mistype.

        Args:
            row: of the application.
            usual_share: of them for each login that goes well, until that is known.
        """
        share = self._share.usual.mean if self._share.windows else usual_share
        usual = self._guesses.usual
        return Usual(max(usual.mean, share * self.successes.value(row)), usual.deviation)

    def learn(self, row: int) -> None:
        """Take the bucket that is complete into what is usual."""
        failures, successes = self.failures.completed(row), self.successes.completed(row)
        guesses = _without(failures, self.sources.completed(row), self._came_in.completed(row))[1]
        self._guesses.take(guesses)
        if successes:
            self._share.take(guesses / successes)


def _without(failures: float, sources: float, came_in: float) -> tuple[float, float]:
    left = max(sources - came_in, 0.0)
    return left, failures * left / sources if sources else 0.0


class _Baseline:
    """What is usual of one number, and how many windows that rests on; the first of a process is not a whole one."""

    __slots__ = ("_begun", "usual", "windows")

    def __init__(self) -> None:
        self.usual = Usual()
        self.windows = 0
        self._begun = False

    def take(self, number: float) -> None:
        if not self._begun:
            self._begun = True
            return
        self.windows += 1
        self.usual = learned(self.usual, number, max(1 / self.windows, _GAIN))


APPLICATION = b"application"
"""The key of the application as a client of itself."""
