"""How much one client asks for, and how much of that fails."""

from __future__ import annotations

from functools import partial

from ...settings.behavior_rules import ErrorRatio, RequestRate
from .histories import Histories
from .sightings import ERROR_RATIO, REQUEST_RATE, Explanation, Finding, Sighting
from .sliding import Clock, Table, Windows
from .usual import Usual, learned, score, share_score

_HEADS = 64
"""Bits of the maps in which who is behind an address leaves one."""
EVERYONE = b""
"""The key of all clients together."""
_OWN_GAIN = 1 / 240
"""What one more window of a client counts: after four busy hours the first is half forgotten."""
_APPLICATION_GAIN = 1 / 64
_LEAST_OF_ONE = 3
"""Requests of a browser in a minute: a page loads what belongs to it."""


class RateDetector:
    """Requests in the window against the client's own usual number and against that of the application's clients."""

    def __init__(self, rule: RequestRate, clock: Clock, table: Table, *, shared: bool) -> None:
        """Build a detector for the rows of `table`; `shared` tells whether many clients can be behind one row."""
        self._rule = rule
        self._shared = shared
        self._table = table
        self.histories = Histories()
        self.windows = Windows(table, clock.beat(rule.window))
        self._requests = self.windows.count()
        self._heads = self.windows.distinct(_HEADS)
        self._users = self.windows.distinct(_HEADS)
        self._mean = table.reals()
        self._deviation = table.reals()
        self._learned = table.integers("B")
        self.application = Usual()
        self.application_learned = 0

    def count(self, row: int, head: int, named: bool) -> int:
        """Count a request; return how many there are in the current bucket.

        Args:
            row: of the client.
            head: a hash of who is behind an address.
            named: whether that is a user id.
        """
        if self.windows.are_over(row):
            self._learn(row)
            self.windows.turn(row)
        requests = self._requests
        number = requests.current[row] + 1
        requests.current[row] = number
        if self._shared:
            (self._users if named else self._heads).add(row, head)
        return number + requests.others[row]

    def judge(self, row: int) -> Finding | None:
        """Say whether the client is conspicuous, after `count`."""
        if self._requests.at_most(row) < self._rule.requests:
            return None
        rule = self._rule
        number, heads = self._requests.value(row), self.clients(row)
        if number >= rule.most * heads:
            return Finding(REQUEST_RATE, "", partial(self._explain, number, None, heads, 0.0))
        if self.application_learned < rule.warm_up:
            return None
        application = Usual(self.application.mean * heads, self.application.deviation * heads)
        has_own = self._learned[row] >= rule.own_warm_up or self._recalls(row)
        own = Usual(self._mean[row], self._deviation[row]) if has_own else application
        usual = max(own.mean, application.mean)
        lowest = min(score(number, own), score(number, application))
        if number < max(rule.requests * heads, rule.times * usual) or lowest < rule.score:
            return None
        return Finding(REQUEST_RATE, "", partial(self._explain, number, own if has_own else None, heads, lowest))

    def clients(self, row: int) -> float:
        """Return how many clients the row's address is allowed for, after `count`.

        Where there are nearly as many user agents as requests, somebody makes them up.
        """
        heads = self._heads.value(row)
        if self._requests.value(row) < _LEAST_OF_ONE * heads:
            heads = 1.0
        return self._allowed(heads, self._users.value(row))

    def requests(self, row: int) -> float:
        """Return how many requests a row has in the window."""
        return self._requests.value(row)

    def _allowed(self, heads: float, users: float) -> float:
        return max(min(heads, self._rule.clients), min(users, self._rule.users), 1.0)

    def _explain(self, number: float, own: Usual | None, heads: float, lowest: float) -> Explanation:
        rule = self._rule
        application = self.application.mean
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
                "threshold": rule.score if lowest else rule.most,
            },
        )

    def _recalls(self, row: int) -> bool:
        """Take what was usual for a client before a restart, where that is known."""
        history = self.histories.recall(self._table.key(row))
        if history is None or history[2] < self._rule.own_warm_up:
            return False
        self._mean[row], self._deviation[row], self._learned[row] = history[0], history[1], min(history[2], 255)
        return True

    def _learn(self, row: int) -> None:
        """Take the row's complete bucket into what is usual, where anything happened in it."""
        number = self._requests.completed(row)
        if not number:
            return
        count = self._learned[row] = min(self._learned[row] + 1, 255)
        own = Usual(self._mean[row], self._deviation[row])
        own = learned(own, number, max(1 / count, _OWN_GAIN))
        self._mean[row], self._deviation[row] = own
        if count >= self._rule.own_warm_up and own.mean * self._rule.times >= self._rule.requests:
            self.histories.note(self._table.key(row), own, count)
        self.application_learned += 1
        gain = max(1 / self.application_learned, _APPLICATION_GAIN)
        heads = self._allowed(self._heads.completed(row), self._users.completed(row))
        self.application = learned(self.application, number / heads, gain)


class Numbers:
    """What `RateDetector.count` and `ErrorDetector.passed` add to the counts, in one step.

    Nearly every request of every client does no more than that. A call costs such a request more than it does in a
    loop: since the last one, the application has had the processor's caches.
    """

    def __init__(self, table: Table, rates: RateDetector, errors: ErrorDetector) -> None:
        """Add to the columns that these detectors have in `table`."""
        requests = rates._requests
        self._columns = (
            table._rows,
            table._seen_again,
            rates.windows._bucket,
            rates.windows._beat,
            requests.current,
            requests.others,
            requests.before,
            rates._heads.current,
            rates._users.current,
            errors.windows._bucket,
            errors.windows._beat,
            errors._requests.current,
            errors.all_windows._bucket,
            errors._all_requests.current,
            errors._all,
        )
        self._shared = rates._shared
        self._least = rates._rule.requests

    def add(self, key: bytes, head: int, named: bool) -> int:
        """Count a request that went well; return how many the client has in the current bucket.

        It is 0, and nothing is counted, for a client that is not known or whose bucket is over, and for one with so
        many requests that there may be more to say.

        Args:
            key: of the client.
            head: a hash of who is behind an address.
            named: whether that is a user id.
        """
        (
            rows,
            seen_again,
            bucket,
            beat,
            current,
            others,
            before,
            heads,
            users,
            error_bucket,
            error_beat,
            requests,
            all_bucket,
            all_requests,
            everyone,
        ) = self._columns
        row = rows.get(key)
        now = error_beat.bucket
        if row is None or bucket[row] != beat.bucket or error_bucket[row] != now or all_bucket[everyone] != now:
            return 0
        own = current[row] + 1
        number = own + others[row]
        if number + before[row] >= self._least:
            return 0
        seen_again[row] = 1
        current[row] = own
        if self._shared:
            bits = users if named else heads
            bit = 1 << head % _HEADS
            if not bits[row] & bit:
                bits[row] |= bit
        requests[row] += 1
        all_requests[everyone] += 1
        return number


class ErrorDetector:
    """The share of errors among a client's requests, against that of all the others in the same window.

    Failures at one resource one after the other are a client that tries again, and several count as one; a 401
    without a failed login and a resource on which many fail are nobody's errors.
    """

    def __init__(self, rule: ErrorRatio, clock: Clock, table: Table) -> None:
        self._rule = rule
        self._least_errors = rule.share * rule.requests
        beat = clock.beat(rule.window)
        self.windows = Windows(table, beat)
        self._requests = self.windows.count()
        self._errors = self.windows.count()
        self._place = table.integers()
        self._repeats = table.integers("B")
        everyone = Table(1)
        self._all = everyone.row(EVERYONE)
        self.all_windows = Windows(everyone, beat)
        self._all_requests = self.all_windows.count()
        self._all_errors = self.all_windows.count()

    def judge(self, row: int, seen: Sighting) -> Finding | None:
        """Count a request and say whether the client is conspicuous with it."""
        self.windows.turn(row)
        self.all_windows.turn(self._all)
        failed = seen.status >= self._rule.status
        if failed and self._is_repeat(row, seen):
            return None
        self._requests.current[row] += 1
        self._all_requests.current[self._all] += 1
        if not failed or seen.alike or (seen.status == 401 and not seen.failed_login):
            return None
        self._errors.current[row] += 1
        self._all_errors.current[self._all] += 1
        if self._errors.at_most(row) < self._least_errors:
            return None
        return self._compared(row)

    def passed(self, row: int) -> None:
        """Count a request that went well, which makes nobody conspicuous."""
        if self.windows.are_over(row):
            self.windows.turn(row)
        everyone = self._all
        if self.all_windows.are_over(everyone):
            self.all_windows.turn(everyone)
        self._requests.current[row] += 1
        self._all_requests.current[everyone] += 1

    def _is_repeat(self, row: int, seen: Sighting) -> bool:
        if self._place[row] != seen.place:
            self._place[row], self._repeats[row] = seen.place, 1
            return False
        repeats = self._repeats[row]
        self._repeats[row] = (repeats + 1) % self._rule.repeats
        return repeats != 0

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
