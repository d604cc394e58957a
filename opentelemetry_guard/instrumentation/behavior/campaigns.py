"""The application as a whole: what many addresses do at the same time, each of them too little to be conspicuous."""

from __future__ import annotations

from functools import partial

from ...settings.behavior_rules import Campaign
from .sightings import CAMPAIGN, CAMPAIGN_FLOOD, CAMPAIGN_LOGINS, CAMPAIGN_PATHS, Explanation, Finding, Sighting, least
from .sliding import Clock, Table, Windows
from .usual import Usual, learned, score

_MAP = 1024
_MINUTE = 60.0
_GAIN = 1 / 32

Learned = dict[str, tuple[float, float, int]]
"""What is usual, by name: mean, deviation, and how many windows it rests on."""


class CampaignDetector:
    """Failed logins, missing paths and busy clients of the whole application, against their own usual numbers.

    A window in which nothing happened counts as well: it is noticed when the next thing happens.
    """

    def __init__(self, rule: Campaign, clock: Clock) -> None:
        self.rule = rule
        self.table = Table(1)
        self._row = self.table.row(APPLICATION)
        self.windows = Windows(self.table, clock.beat(rule.window))
        self._failures = self.windows.count()
        self._successes = self.windows.count()
        self._missing = self.windows.count()
        self._login_sources = self.windows.distinct(_MAP)
        self._path_sources = self.windows.distinct(_MAP)
        self._paths = self.windows.distinct(_MAP)
        self.minutes = Windows(self.table, clock.beat(_MINUTE))
        self._requests = self.minutes.count()
        self._busy = self.minutes.distinct(_MAP)
        self._usual: dict[str, _Baseline] = {
            name: _Baseline() for name in ("failures", "share", "paths", "requests", "busy")
        }

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
        if not seen.failed_login:
            self._successes.current[row] += 1
            return None
        self._failures.current[row] += 1
        self._login_sources.add(row, address)
        if (
            self._failures.at_most(row) < least(rule.failures)
            or self._login_sources.at_most(row) < least(rule.sources)
            or self._login_sources.value(row) < least(rule.sources)
        ):
            return None
        failures = self._failures.value(row)
        usual = self._usual["failures"].usual
        share = self._usual["share"]
        # In the morning more people come in, and more mistype.
        by_share = (share.usual.mean if share.windows else rule.usual_share) * self._successes.value(row)
        expected = Usual(max(usual.mean, by_share), usual.deviation)
        if failures < max(least(rule.failures), rule.times * expected.mean) or score(failures, expected) < rule.score:
            return None
        return Finding(CAMPAIGN, CAMPAIGN_LOGINS, partial(self._explain_logins, failures, expected.mean))

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

    def _turn(self) -> None:
        row = self._row
        if not self.windows.are_over(row):
            return
        failures, successes = self._failures.completed(row), self._successes.completed(row)
        self._usual["failures"].take(failures)
        if successes:
            self._usual["share"].take(failures / successes)
        self._usual["paths"].take(self._paths.completed(row))
        self.windows.turn(row)

    def _explain_logins(self, failures: float, usual: float) -> Explanation:
        sources = self._login_sources.value(self._row)
        return self._explain("failed logins", failures, sources, usual, self.rule.window)

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
