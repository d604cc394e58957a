"""Logins of one client: who guesses, who tries stolen pairs, and who comes in after that."""

from __future__ import annotations

from functools import partial

from ...settings.behavior_rules import FailedLogins
from .sightings import (
    ATTEMPTS,
    BRUTE_FORCE,
    DAY,
    DISTRIBUTED,
    FAILED_LOGINS,
    STUFFING,
    SUCCESS,
    Explanation,
    Finding,
    Sighting,
    least,
    suspects,
)
from .sliding import Clock, Share, Table, Windows


class LoginDetector:
    """Failed logins of one address (of many users: credential stuffing), or against one user id, from one or many.

    An address is allowed more failures with every login from it that goes well, so that many users behind it may
    mistype; requests of other kinds buy nothing. The same refused credentials again are a client that tries again, and
    count once.
    """

    def __init__(self, rule: FailedLogins, clock: Clock, max_clients: int, *, of_users: bool) -> None:
        """Build a detector that knows nobody; `peers` of a user are addresses, and of an address users."""
        self._rule = rule
        self._of_users = of_users
        self._max_peers = rule.addresses if of_users else rule.users
        self._slow_threshold = max(rule.slow_failures, rule.failures)
        self.table = Table(suspects(max_clients))
        self.suspects = self.table.keys
        self.windows = Windows(self.table, clock.beat(rule.window))
        self._failures = self.windows.count()
        self._peers = self.windows.distinct()
        self.slow_windows = Windows(self.table, clock.beat(rule.slow_window))
        self._slow_failures = self.slow_windows.count()
        self._successes = self.slow_windows.count()
        self._heads = self.slow_windows.distinct(64)
        self.day_windows = Windows(self.table, clock.beat(DAY))
        self._day_failures = self.day_windows.count()
        self._day_successes = self.day_windows.count()
        self.all_windows = (self.windows, self.slow_windows, self.day_windows)
        self._credentials = self.table.integers()

    def judge(self, key: bytes, seen: Sighting) -> Finding | None:
        """Take a login and say whether the client is conspicuous with it."""
        row = self.table.row(key) if seen.failed_login else self.table.find(key)
        if row is None:
            return None
        for windows in self.all_windows:
            windows.turn(row)
        if not seen.failed_login:
            return self._succeeded(row, seen)
        if seen.credentials and seen.credentials == self._credentials[row]:
            return None
        self._credentials[row] = seen.credentials
        self._failures.current[row] += 1
        self._slow_failures.current[row] += 1
        self._day_failures.current[row] += 1
        self._heads.add(row, seen.head)
        peer = seen.address if self._of_users else seen.user
        if peer is not None:
            self._peers.add(row, peer)
        pattern = self._conspicuous(row)
        return None if pattern is None else Finding(FAILED_LOGINS, pattern, partial(self._explain, pattern, row))

    def _succeeded(self, row: int, seen: Sighting) -> Finding | None:
        # Behind one address may be many people: whose browser has not failed is somebody else.
        is_same = self._heads.has(row, seen.head)
        was_guessing = is_same and self._conspicuous(row) is not None
        self._successes.current[row] += 1
        self._day_successes.current[row] += 1
        return Finding(FAILED_LOGINS, SUCCESS, partial(self._explain, SUCCESS, row)) if was_guessing else None

    def _conspicuous(self, row: int) -> str | None:
        rule = self._rule
        fast, slow, day, peers = self._failures, self._slow_failures, self._day_failures, self._peers
        if (
            fast.at_most(row) < least(rule.failures)
            and slow.at_most(row) < least(self._slow_threshold)
            and day.at_most(row) < least(rule.day_failures)
            and peers.at_most(row) < least(self._max_peers)
        ):
            return None
        allowed = 0.0 if self._of_users else rule.per_success * self._successes.value(row)
        if peers.value(row) >= least(self._max_peers + allowed):
            return DISTRIBUTED if self._of_users else STUFFING
        if fast.value(row) >= least(rule.failures + allowed):
            return BRUTE_FORCE
        if slow.value(row) >= least(self._slow_threshold + allowed):
            return BRUTE_FORCE
        allowed = 0.0 if self._of_users else rule.per_success * self._day_successes.value(row)
        return BRUTE_FORCE if day.value(row) >= least(rule.day_failures + allowed) else None

    def _explain(self, pattern: str, row: int) -> Explanation:
        rule = self._rule
        failures, peers = self._failures.value(row), self._peers.value(row)
        window, count, threshold = rule.window, failures, rule.failures
        if pattern in (BRUTE_FORCE, SUCCESS) and failures < least(rule.failures):
            window, count, threshold = rule.slow_window, self._slow_failures.value(row), self._slow_threshold
            if count < least(threshold):
                window, count, threshold = DAY, self._day_failures.value(row), rule.day_failures
        failed = "of one user failed" if self._of_users else "failed from one address"
        reason = {
            STUFFING: f"logins of about {peers:.0f} users failed from one address",
            DISTRIBUTED: f"logins of one user failed from about {peers:.0f} addresses",
            BRUTE_FORCE: f"{count:.0f} logins {failed}",
            SUCCESS: f"a login went well after {count:.0f} {failed.replace(' failed', ' that failed', 1)}",
        }[pattern]
        evidence: dict[str, object] = {"window": window, "count": round(count)}
        evidence["distinct_addresses" if self._of_users else "distinct_users"] = round(peers)
        evidence["successes"] = round(self._successes.value(row))
        by_peers = pattern in (STUFFING, DISTRIBUTED)
        evidence["threshold"] = self._max_peers if by_peers else threshold
        return Explanation(f"{reason} within {window:g} s", evidence)


class AttemptDetector:
    """Logins of one address that go well by their status: where the body of a 200 says no, nothing else tells."""

    def __init__(self, rule: FailedLogins, clock: Clock, max_clients: int) -> None:
        self._rule = rule
        self.table = Table(suspects(max_clients))
        self.suspects = self.table.keys
        self.windows = Windows(self.table, clock.beat(rule.window))
        self.all_windows = (self.windows,)
        self._attempts = self.windows.count()
        self._share = Share(self.table)

    def judge(self, key: bytes, seen: Sighting) -> Finding | None:
        """Count a request and say whether the client does nothing but log in."""
        counts = seen.is_login and not seen.failed_login
        row = self.table.row(key) if counts else self.table.find(key)
        if row is None:
            return None
        self._share.add(row, counts)
        if not counts:
            return None
        self.windows.turn(row)
        self._attempts.current[row] += 1
        if self._attempts.at_most(row) < least(self._rule.attempts):
            return None
        attempts, share = self._attempts.value(row), self._share.value[row]
        if attempts < least(self._rule.attempts) or share < self._rule.attempts_share:
            return None
        return Finding(FAILED_LOGINS, ATTEMPTS, partial(self._explain, attempts, share))

    def _explain(self, attempts: float, share: float) -> Explanation:
        rule = self._rule
        return Explanation(
            f"{attempts:.0f} logins from one address within {rule.window:g} s, and hardly anything else",
            {
                "window": rule.window,
                "count": round(attempts),
                "share": round(share, 3),
                "threshold": rule.attempts,
            },
        )
