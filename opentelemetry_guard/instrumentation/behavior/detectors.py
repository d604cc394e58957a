"""The detectors of behavioural analysis: each keeps one kind of count per client and says when it is conspicuous.

What holds for all of them:

- None has a lock: `analyzer` calls them one at a time, and moves the clock that they share.
- What a client costs is one row in tables of bounded size, whatever it sends: counts, and bit maps of hashes. Texts are
  never kept.
- Who has never failed has no row with the detectors of failures (`suspects`), so that a flood of harmless clients
  pushes out no suspect.
- A count is compared as an estimate that rounds to its threshold (`least`), and an upper bound of it is asked first.
- A finding is a fact of this request; whether it is told or folded into an incident is `analyzer`'s to decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ...settings.behavior_rules import ErrorRatio, FailedLogins, RequestRate, Scanning
from .sliding import Clock, Share, Table, Windows

FAILED_LOGINS = "failed_logins"
SCANNING = "scanning"
REQUEST_RATE = "request_rate"
ERROR_RATIO = "error_ratio"

STUFFING = "credential_stuffing"
BRUTE_FORCE = "brute_force"
DISTRIBUTED = "distributed_brute_force"

_SUSPECT_SHARE = 16
_OWN_GAIN = 1 / 8
_APPLICATION_GAIN = 1 / 64


class Sighting(NamedTuple):
    """What the detectors look at in one answered request.

    `place`, `address` and `user` are hashes of the resource that was asked for and of who asked, for a request that
    failed; `head` is one of who is behind an address. `failed_login` tells whether the answer says that a login
    failed, and `is_login` whether the resource's name says that it is one.
    """

    status: int
    head: int
    place: int = 0
    address: int | None = None
    user: int | None = None
    failed_login: bool = False
    is_login: bool = False


class Finding(NamedTuple):
    """What is conspicuous: the detector, the pattern where it knows several, and what returns the explanation.

    Most findings belong to an incident that was told, and are never explained: a flood has to stay cheap. An
    explanation is asked for at once or not at all.
    """

    detector: str
    pattern: str
    explain: Callable[[], Explanation]


class Explanation(NamedTuple):
    """The reason in words, and the evidence."""

    reason: str
    evidence: dict[str, object]


def least(threshold: float) -> float:
    """Return the least estimate that is the threshold when it is rounded."""
    return threshold - 0.5


class LoginDetector:
    """Failed logins of one address (of many users: credential stuffing), or against one user id, from one or many.

    The first failure at each resource is free unless its name says that it is a login: when a session ends, a page
    gets one 401 from everything that it loads. Of an address, failures are conspicuous among enough other requests
    only, so that many users behind it may mistype; of a user id they always are.
    """

    def __init__(self, rule: FailedLogins, clock: Clock, max_clients: int, *, of_users: bool) -> None:
        """Build a detector that knows nobody; `peers` of a user are addresses, and of an address users."""
        self._rule = rule
        self._of_users = of_users
        self._max_peers = rule.addresses if of_users else rule.users
        self._table = Table(_suspects(max_clients))
        self.suspects = self._table.keys
        self._windows = Windows(self._table, clock.beat(rule.window))
        self._share = Share(self._table)
        self._failures = self._windows.count()
        self._peers = self._windows.distinct()
        self._places = self._windows.distinct(64)

    def judge(self, key: bytes, seen: Sighting) -> Finding | None:
        """Count a request and say whether the client is conspicuous with it."""
        row = self._table.row(key) if seen.failed_login else self._table.find(key)
        if row is None:
            return None
        self._share.add(row, seen.failed_login)
        if not seen.failed_login:
            return None
        self._windows.turn(row)
        is_first = self._places.add(row, seen.place)
        if seen.is_login or not is_first:
            self._failures.current[row] += 1
        peer = seen.address if self._of_users else seen.user
        if peer is not None:
            self._peers.add(row, peer)
        least_failures, least_peers = least(self._rule.failures), least(self._max_peers)
        if self._failures.at_most(row) < least_failures and self._peers.at_most(row) < least_peers:
            return None
        failures, peers = self._failures.value(row), self._peers.value(row)
        if peers < least_peers and failures < least_failures:
            return None
        share = self._share.value[row]
        if not self._of_users and share < self._rule.share:
            return None
        pattern = (DISTRIBUTED if self._of_users else STUFFING) if peers >= least_peers else BRUTE_FORCE
        return Finding(FAILED_LOGINS, pattern, partial(self._explain, pattern, failures, peers, share))

    def _explain(self, pattern: str, failures: float, peers: float, share: float) -> Explanation:
        rule = self._rule
        failed = "of one user failed" if self._of_users else "failed from one address"
        reasons = {
            STUFFING: f"logins of about {peers:.0f} users failed from one address",
            DISTRIBUTED: f"logins of one user failed from about {peers:.0f} addresses",
            BRUTE_FORCE: f"{failures:.0f} logins {failed}",
        }
        evidence: dict[str, object] = {"window": rule.window, "count": round(failures)}
        if self._of_users:
            evidence["distinct_addresses"] = round(peers)
        else:
            evidence |= {"distinct_users": round(peers), "share": round(share, 3)}
        evidence["threshold"] = rule.failures if pattern == BRUTE_FORCE else self._max_peers
        return Explanation(f"{reasons[pattern]} within {rule.window:g} s", evidence)


class ScanDetector:
    """Many distinct resources that don't exist; a client has no row before its first."""

    def __init__(self, rule: Scanning, clock: Clock, max_clients: int) -> None:
        self._rule = rule
        self._least_paths = least(rule.paths)
        self._table = Table(_suspects(max_clients))
        self.suspects = self._table.keys
        self._windows = Windows(self._table, clock.beat(rule.window))
        self._share = Share(self._table)
        self._missing = self._windows.count()
        self._places = self._windows.distinct()

    def judge(self, key: bytes, seen: Sighting) -> Finding | None:
        """Count a request and say whether the client is conspicuous with it."""
        rule = self._rule
        missing = seen.status in rule.statuses
        row = self._table.row(key) if missing else self._table.find(key)
        if row is None:
            return None
        self._share.add(row, missing)
        if not missing:
            return None
        self._windows.turn(row)
        self._missing.current[row] += 1
        self._places.add(row, seen.place)
        if self._places.at_most(row) < self._least_paths:
            return None
        places = self._places.value(row)
        share = self._share.value[row]
        if places < self._least_paths or share < rule.share:
            return None
        return Finding(SCANNING, "", partial(self._explain, row, places, share))

    def _explain(self, row: int, places: float, share: float) -> Explanation:
        rule = self._rule
        return Explanation(
            f"about {places:.0f} paths that don't exist were asked for within {rule.window:g} s",
            {
                "window": rule.window,
                "count": round(self._missing.value(row)),
                "distinct_paths": round(places),
                "share": round(share, 3),
                "threshold": rule.paths,
            },
        )


class RateDetector:
    """Requests in the window against the client's own usual number and against that of the application's clients."""

    def __init__(self, rule: RequestRate, clock: Clock, table: Table, *, shared: bool) -> None:
        """Build a detector for the rows of `table`; `shared` tells whether many clients can be behind one row."""
        self._rule = rule
        self._shared = shared
        self._windows = Windows(table, clock.beat(rule.window))
        self._requests = self._windows.count()
        self._heads = self._windows.distinct(64)
        self._mean = table.reals()
        self._deviation = table.reals()
        self._learned = table.integers("B")
        self._application = Usual()
        self._application_learned = 0

    def judge(self, row: int, seen: Sighting) -> Finding | None:
        """Count a request and say whether the client is conspicuous with it."""
        if self._windows.are_over(row):
            self._learn(row)
            self._windows.turn(row)
        self._requests.current[row] += 1
        if self._shared:
            self._heads.add(row, seen.head)
        if self._requests.at_most(row) < self._rule.requests or self._application_learned < self._rule.warm_up:
            return None
        return self._compared(row)

    def _compared(self, row: int) -> Finding | None:
        rule = self._rule
        number = self._requests.value(row)
        heads = self._clients(self._heads.value(row))
        application = Usual(self._application.mean * heads, self._application.deviation * heads)
        has_own = self._learned[row] >= rule.own_warm_up
        own = Usual(self._mean[row], self._deviation[row]) if has_own else application
        usual = max(own.mean, application.mean)
        lowest = min(score(number, own), score(number, application))
        if number < max(rule.requests, rule.times * usual) or lowest < rule.score:
            return None
        return Finding(REQUEST_RATE, "", partial(self._explain, number, own if has_own else None, heads, lowest))

    def _explain(self, number: float, own: Usual | None, heads: float, lowest: float) -> Explanation:
        rule = self._rule
        application = self._application.mean
        usual = max(application * heads, 0.0 if own is None else own.mean)
        return Explanation(
            f"{number:.0f} requests within {rule.window:g} s, where at most {usual:.0f} are usual",
            {
                "window": rule.window,
                "count": round(number),
                "baseline": None if own is None else round(own.mean, 1),
                "application_baseline": round(application, 1),
                "clients": round(heads),
                "score": round(lowest, 1),
                "threshold": rule.score,
            },
        )

    def _learn(self, row: int) -> None:
        """Take the row's complete bucket into what is usual, where anything happened in it."""
        number = self._requests.current[row]
        if not number:
            return
        count = self._learned[row] = min(self._learned[row] + 1, 255)
        own = Usual(self._mean[row], self._deviation[row])
        self._mean[row], self._deviation[row] = learned(own, number, max(1 / count, _OWN_GAIN))
        self._application_learned += 1
        gain = max(1 / self._application_learned, _APPLICATION_GAIN)
        self._application = learned(self._application, number / self._clients(self._heads.completed(row)), gain)

    def _clients(self, heads: float) -> float:
        """Return how many clients an address is allowed for."""
        return min(max(heads, 1.0), self._rule.clients)


class ErrorDetector:
    """The share of errors among a client's requests, against that of all the others in the same window."""

    def __init__(self, rule: ErrorRatio, clock: Clock, table: Table) -> None:
        self._rule = rule
        self._least_errors = rule.share * rule.requests
        beat = clock.beat(rule.window)
        self._windows = Windows(table, beat)
        self._requests = self._windows.count()
        self._errors = self._windows.count()
        everyone = Table(1)
        self._all = everyone.row(b"")
        self._all_windows = Windows(everyone, beat)
        self._all_requests = self._all_windows.count()
        self._all_errors = self._all_windows.count()

    def judge(self, row: int, seen: Sighting, *, explained: bool = False) -> Finding | None:
        """Count a request and say whether the client is conspicuous with it, unless its errors are `explained`."""
        self._windows.turn(row)
        self._all_windows.turn(self._all)
        self._requests.current[row] += 1
        self._all_requests.current[self._all] += 1
        if seen.status < self._rule.status:
            return None
        self._errors.current[row] += 1
        self._all_errors.current[self._all] += 1
        if explained or self._errors.at_most(row) < self._least_errors:
            return None
        return self._compared(row)

    def _compared(self, row: int) -> Finding | None:
        rule = self._rule
        requests, errors = self._requests.value(row), self._errors.value(row)
        if requests < rule.requests or errors < rule.share * requests:
            return None
        others = self._all_requests.value(self._all) - requests
        if others < rule.others:
            return None
        others_share = (self._all_errors.value(self._all) - errors) / others
        lead = share_score(errors / requests, requests, others_share, others)
        if lead < rule.score:
            return None
        return Finding(ERROR_RATIO, "", partial(self._explain, requests, errors, others_share, lead))

    def _explain(self, requests: float, errors: float, others_share: float, lead: float) -> Explanation:
        rule = self._rule
        share = errors / requests
        return Explanation(
            f"{share:.0%} of {requests:.0f} requests failed within {rule.window:g} s, "
            f"where {others_share:.0%} of the others' did",
            {
                "window": rule.window,
                "count": round(errors),
                "requests": round(requests),
                "share": round(share, 3),
                "baseline": round(others_share, 3),
                "score": round(lead, 1),
                "threshold": rule.score,
            },
        )


class Usual(NamedTuple):
    """A usual number: its mean, and the mean absolute deviation from it."""

    mean: float = 0.0
    deviation: float = 0.0


def spread(usual: Usual) -> float:
    """Return the standard deviation that goes with it: never less than what pure chance gives counts of this size."""
    # 1.25 is the ratio of a normal distribution's standard deviation to its mean absolute one.
    return max(1.25 * usual.deviation, math.sqrt(max(usual.mean, 0.0)), 1.0)


def score(value: float, usual: Usual) -> float:
    """Return how many standard deviations `value` lies above the mean."""
    return (value - usual.mean) / spread(usual)


def learned(usual: Usual, value: float, gain: float) -> Usual:
    """Return what is usual after one more value, which gets the weight `gain`, from above 0 to 1 for the first.

    A value far above counts as three deviations above: a flood takes many windows to become usual. The first value
    leaves half of itself as the deviation, as TCP begins to estimate its round trip (RFC 6298).
    """
    if gain >= 1:
        return Usual(value, value / 2)
    error = min(value, usual.mean + 3 * spread(usual)) - usual.mean
    return Usual(usual.mean + gain * error, usual.deviation + gain * (abs(error) - usual.deviation))


def share_score(share: float, number: float, usual: float, others: float) -> float:
    """Return how many standard deviations a share of `number` things lies above the usual one of `others`.

    The usual share is taken as if one thing more had failed and one more had not (Laplace), so that none at all
    among a few others is no proof that there can't be any.
    """
    expected = (usual * others + 1) / (others + 2)
    return (share - expected) / math.sqrt(expected * (1 - expected) / number)


def _suspects(max_clients: int) -> int:
    return max(max_clients // _SUSPECT_SHARE, 16)
