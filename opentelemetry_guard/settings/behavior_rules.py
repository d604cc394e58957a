"""What counts as conspicuous: the thresholds of the behavioural analysis, as data that a setting can change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import values
from .rules import changed, entries, group, rule

_MANY = 1_000_000_000
_DAY = 86_400
_DISTINCT = 200
"""What a bit map of 256 bits still counts well."""

_status = values.whole(400, 599)


@dataclass(frozen=True, slots=True)
class FailedLogins:
    """Failed logins (`login_rules` says what these are) of one address, or against one user id.

    Attributes:
        window: seconds.
        failures: of one address, or against one user id.
        users: distinct user ids that failed from one address: credential stuffing.
        addresses: distinct addresses from which one user id failed: a distributed attack.
        share: of failures among the address's latest requests, about 32; below it nothing is conspicuous, so that
            many users behind one address may mistype.
    """

    window: float = rule(300.0, values.number(1, _DAY))
    failures: int = rule(10, values.whole(1, _MANY))
    users: int = rule(8, values.whole(1, _DISTINCT))
    addresses: int = rule(5, values.whole(1, _DISTINCT))
    share: float = rule(0.2, values.number(0, 1))


@dataclass(frozen=True, slots=True)
class Scanning:
    """Distinct paths that one client asked for and that don't exist.

    Attributes:
        window: seconds.
        paths: distinct ones.
        share: of such answers among the client's latest requests, about 32; below it nothing is conspicuous.
        statuses: what means that a path doesn't exist.
    """

    window: float = rule(300.0, values.number(1, _DAY))
    paths: int = rule(20, values.whole(1, _DISTINCT))
    share: float = rule(0.3, values.number(0, 1))
    statuses: tuple[int, ...] = entries((404,), _status)


@dataclass(frozen=True, slots=True)
class RequestRate:
    """Many more requests than the client usually sends, and than the application's clients usually send.

    Attributes:
        window: seconds.
        requests: below which nothing is conspicuous.
        times: the least multiple of both usual numbers.
        score: the least distance from both usual numbers, in deviations.
        warm_up: windows of clients that the application's usual number rests on, before which nothing is conspicuous.
        own_warm_up: windows of a client that its own usual number rests on; before, the application's stands in.
        clients: the most clients behind one address (told apart by user id, else by user agent) that are allowed for.
    """

    window: float = rule(60.0, values.number(1, _DAY))
    requests: int = rule(600, values.whole(1, _MANY))
    times: float = rule(5.0, values.number(1, _MANY))
    score: float = rule(6.0, values.number(0, _MANY))
    warm_up: int = rule(100, values.whole(1, _MANY))
    own_warm_up: int = rule(3, values.whole(1, _MANY))
    clients: int = rule(32, values.whole(1, 64))


@dataclass(frozen=True, slots=True)
class ErrorRatio:
    """Far more of a client's requests fail than of all the others' at the same time.

    Attributes:
        window: seconds.
        requests: of the client since its first error, below which nothing is conspicuous.
        share: the least share of errors.
        score: the least distance from the others' share, in standard deviations of a share.
        others: requests of the others in the window, below which there is nothing to compare with.
        status: the least status that is an error.
    """

    window: float = rule(60.0, values.number(1, _DAY))
    requests: int = rule(50, values.whole(1, _MANY))
    share: float = rule(0.6, values.number(0, 1))
    score: float = rule(6.0, values.number(0, _MANY))
    others: int = rule(50, values.whole(1, _MANY))
    status: int = rule(400, values.whole(1, 599))


@dataclass(frozen=True, slots=True)
class BehaviorRules:
    """All rules; a detector that is None is switched off.

    Attributes:
        cooldown: seconds between two events about one incident.
        max_clients: addresses that are remembered; of user ids a quarter as many, and of suspects a sixteenth.
    """

    cooldown: float = rule(300.0, values.number(0, _DAY))
    max_clients: int = rule(100_000, values.whole(16, 10_000_000))
    failed_logins: FailedLogins | None = group(FailedLogins)
    scanning: Scanning | None = group(Scanning)
    request_rate: RequestRate | None = group(RequestRate)
    error_ratio: ErrorRatio | None = group(ErrorRatio)

    @classmethod
    def resolve(cls, changes: Mapping[str, object] | None = None) -> BehaviorRules:
        """Return the default rules with `changes`.

        Args:
            changes: by rule; a detector's is an object with its attributes, or None, which switches it off.

        Raises:
            ValueError: a rule or a value is not one that there is.
        """
        return changed(cls, changes or {}, "behavior_rules")
