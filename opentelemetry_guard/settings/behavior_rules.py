"""What counts as conspicuous: the thresholds of the behavioural analysis, as data that a setting can change.

A profile is a set of changes to the defaults below, which are those of ``balanced``; the option `behavior_rules`
changes the profile's numbers one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from . import values
from .rules import changed, entries, group, rule

_MANY = 1_000_000_000
_DAY = 86_400
_DISTINCT = 200
"""What a bit map of 256 bits still counts well."""
_SOURCES = 1_500
"""What a bit map of 1,024 bits still counts well."""

_status = values.whole(400, 599)

DETECTORS = ("failed_logins", "scanning", "enumeration", "request_rate", "error_ratio", "campaign")
"""What each looks for is a rule below, of the same name."""

Profile = Literal["relaxed", "balanced", "strict"]


@dataclass(frozen=True, slots=True)
class FailedLogins:
    """Failed logins of one address, or against one user id.

    Attributes:
        window: seconds.
        failures: of one address, or against one user id.
        slow_window: seconds of a second, longer look.
        slow_failures: in that one; never less than `failures`.
        day_failures: in a day; the limit for one account that NIST SP 800-63B sets.
        per_success: failures that an address is allowed more for each login from it that went well in the longer
            window: where many people are behind one, some mistype.
        users: distinct user ids that failed from one address: credential stuffing.
        addresses: distinct addresses from which one user id failed: a distributed attack.
        attempts: logins from one address that went well, as far as their status tells.
        attempts_share: of logins among that address's latest requests, about 32: who comes in does something else.
    """

    window: float = rule(300.0, values.number(1, _DAY))
    failures: int = rule(10, values.whole(1, _MANY))
    slow_window: float = rule(3600.0, values.number(1, _DAY))
    slow_failures: int = rule(30, values.whole(1, _MANY))
    day_failures: int = rule(100, values.whole(1, _MANY))
    per_success: float = rule(0.25, values.number(0, _MANY))
    users: int = rule(8, values.whole(1, _DISTINCT))
    addresses: int = rule(5, values.whole(1, _DISTINCT))
    attempts: int = rule(40, values.whole(1, _MANY))
    attempts_share: float = rule(0.8, values.number(0, 1))


@dataclass(frozen=True, slots=True)
class Scanning:
    """Distinct paths that one client asked for and that don't exist, or that it may not see.

    Attributes:
        window: seconds.
        paths: distinct ones. Numbers, hashes and long titles in a path are left out before.
        slow_window: seconds of a second, longer look.
        slow_paths: in that one; never less than `paths`.
        per_request: paths that are allowed more for each of the client's other requests, up to as many again: a page
            has dead links.
        statuses: what means that a path doesn't exist, or is closed.
        alike: addresses that fail on the same path within the longer window, from which on it is a mistake of the
            application's, and nobody's scan or error.
    """

    window: float = rule(300.0, values.number(1, _DAY))
    paths: int = rule(20, values.whole(1, _DISTINCT))
    slow_window: float = rule(3600.0, values.number(1, _DAY))
    slow_paths: int = rule(40, values.whole(1, _DISTINCT))
    per_request: float = rule(0.05, values.number(0, 1))
    statuses: tuple[int, ...] = entries((404, 403), _status)
    alike: int = rule(8, values.whole(2, 64))


@dataclass(frozen=True, slots=True)
class Enumeration:
    """What one client tries, one after the other: objects of a route, keys, values that an application refuses.

    Attributes:
        window: seconds.
        statuses: what means that an object is missing, or is somebody else's.
        objects: distinct ones that are missing.
        share: of such answers among the client's latest requests, about 128.
        slow_window: seconds of a second, longer look.
        slow_objects: missing ones in that one; never less than `objects`.
        slow_share: of such answers among the client's latest requests, for the longer looks.
        day_objects: missing ones in a day.
        found: distinct ones that are there, in the shorter window, for a client whom the application doesn't name.
        once: of what it looks at there, the share that it hasn't looked at before: people come back to some.
        refused: requests other than GET and HEAD in the shorter window that an application refuses; no logins.
        refusals: the statuses of that.
        keys: different tokens and API keys in the shorter window that 401 and 403 answers have refused.
        refused_share: of refusals among the client's latest requests, for both.
    """

    window: float = rule(300.0, values.number(1, _DAY))
    statuses: tuple[int, ...] = entries((404, 403, 410), _status)
    objects: int = rule(60, values.whole(1, _SOURCES))
    share: float = rule(0.25, values.number(0, 1))
    slow_window: float = rule(3600.0, values.number(1, _DAY))
    slow_objects: int = rule(100, values.whole(1, _SOURCES))
    slow_share: float = rule(0.5, values.number(0, 1))
    day_objects: int = rule(200, values.whole(1, _SOURCES))
    found: int = rule(400, values.whole(1, _SOURCES))
    once: float = rule(0.8, values.number(0, 1))
    refused: int = rule(60, values.whole(1, _MANY))
    refusals: tuple[int, ...] = entries((400, 404, 409, 410, 422), _status)
    keys: int = rule(10, values.whole(1, _DISTINCT))
    refused_share: float = rule(0.6, values.number(0, 1))


@dataclass(frozen=True, slots=True)
class RequestRate:
    """Many more requests than the client usually sends, and than the application's clients usually send.

    Attributes:
        window: seconds.
        requests: below which nothing is conspicuous.
        most: from which on every client is, whatever is usual.
        times: the least multiple of both usual numbers.
        score: the least distance from both usual numbers, in deviations.
        warm_up: windows of clients that the application's usual number rests on, before which only `most` counts.
        own_warm_up: windows of a client that its own usual number rests on; before, the application's stands in, so
            that a rate which rises slowly doesn't become usual.
        clients: the most clients behind one address, told apart by user agent, that are allowed for.
        users: the same, told apart by user id.
    """

    window: float = rule(60.0, values.number(1, _DAY))
    requests: int = rule(1200, values.whole(1, _MANY))
    most: int = rule(3600, values.whole(1, _MANY))
    times: float = rule(5.0, values.number(1, _MANY))
    score: float = rule(6.0, values.number(0, _MANY))
    warm_up: int = rule(100, values.whole(1, _MANY))
    own_warm_up: int = rule(60, values.whole(1, 255))
    clients: int = rule(8, values.whole(1, 64))
    users: int = rule(32, values.whole(1, 64))


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
        repeats: failures at the same resource one after the other that count as one: a client that tries again.
    """

    window: float = rule(60.0, values.number(1, _DAY))
    requests: int = rule(35, values.whole(1, _MANY))
    share: float = rule(0.6, values.number(0, 1))
    score: float = rule(6.0, values.number(0, _MANY))
    others: int = rule(50, values.whole(1, _MANY))
    status: int = rule(400, values.whole(1, 599))
    repeats: int = rule(3, values.whole(1, 255))


@dataclass(frozen=True, slots=True)
class Campaign:
    """What many addresses do to the application at the same time, each of them too little to be conspicuous.

    Attributes:
        window: seconds, for failed logins, missing paths and missing objects.
        sources: distinct addresses that take part, below which it is no campaign. Those that fail to log in and come
            in within the window don't.
        failures: failed logins of all of them.
        slow_window: seconds of a second, longer look at failed logins.
        slow_failures: in that one.
        slow_times: the least multiple of what is usual, in that one.
        usual_share: of such failures per login that goes well, until the application's own is known.
        paths: distinct missing paths of all of them.
        objects: distinct missing objects of those for whom most is missing.
        busy: requests of one address in a minute from which on it is busy, for a flood of many.
        requests: of the whole application in a minute, below which it is no flood.
        times: the least multiple of what is usual.
        score: the least distance from what is usual, in deviations.
        warm_up: windows that a usual number rests on, before which nothing but failed logins is conspicuous.
    """

    window: float = rule(300.0, values.number(1, _DAY))
    sources: int = rule(20, values.whole(2, _SOURCES))
    failures: int = rule(20, values.whole(1, _MANY))
    slow_window: float = rule(3600.0, values.number(1, _DAY))
    slow_failures: int = rule(60, values.whole(1, _MANY))
    slow_times: float = rule(2.0, values.number(1, _MANY))
    usual_share: float = rule(0.1, values.number(0, _MANY))
    paths: int = rule(30, values.whole(1, _SOURCES))
    objects: int = rule(60, values.whole(1, _SOURCES))
    busy: int = rule(30, values.whole(2, _MANY))
    requests: int = rule(1200, values.whole(1, _MANY))
    times: float = rule(3.0, values.number(1, _MANY))
    score: float = rule(6.0, values.number(0, _MANY))
    warm_up: int = rule(2, values.whole(0, _MANY))


@dataclass(frozen=True, slots=True)
class BehaviorRules:
    """All rules; a detector that is None is switched off.

    Attributes:
        cooldown: seconds without a finding after which an incident is over.
        update: seconds after which an incident that goes on is told again, at the soonest; each further time after
            twice as long, up to the cool-down where that is longer.
        max_clients: addresses that are remembered; of user ids a quarter as many, and of suspects a sixteenth.
        offences: detectors whose findings in an address are offences toward an automatic ban, where one is on: each
            request that completes such a finding, whether it is told or folded. A flood from many addresses is none.
    """

    cooldown: float = rule(300.0, values.number(0, _DAY))
    update: float = rule(60.0, values.number(1, _DAY))
    max_clients: int = rule(100_000, values.whole(16, 10_000_000))
    offences: tuple[str, ...] = entries(("failed_logins", "scanning", "campaign"), values.choice(*DETECTORS))
    failed_logins: FailedLogins | None = group(FailedLogins)
    scanning: Scanning | None = group(Scanning)
    enumeration: Enumeration | None = group(Enumeration)
    request_rate: RequestRate | None = group(RequestRate)
    error_ratio: ErrorRatio | None = group(ErrorRatio)
    campaign: Campaign | None = group(Campaign)

    @classmethod
    def resolve(cls, changes: Mapping[str, object] | None = None, profile: Profile = "balanced") -> BehaviorRules:
        """Return the rules of a profile with `changes`.

        Args:
            changes: by rule; a detector's is an object with its attributes, or None, which switches it off.
            profile: one of `PROFILES`.

        Raises:
            ValueError: a rule or a value is not one that there is.
        """
        return changed(cls, _with(PROFILES[profile], changes or {}), "behavior_rules")


PROFILES: Mapping[Profile, Mapping[str, object]] = MappingProxyType(
    {
        "relaxed": {
            "failed_logins": {
                **{"failures": 20, "slow_failures": 60, "day_failures": 200},
                **{"users": 16, "addresses": 10, "attempts": 80},
            },
            "scanning": {"paths": 40, "slow_paths": 80},
            "enumeration": {
                **{"objects": 120, "slow_objects": 200, "day_objects": 400},
                **{"found": 800, "refused": 120, "keys": 20},
            },
            "request_rate": {"requests": 2400, "most": 7200, "times": 10},
            "error_ratio": {"requests": 70, "share": 0.8},
            "campaign": {
                **{"sources": 40, "failures": 40, "slow_failures": 120, "paths": 60, "objects": 120, "requests": 2400},
            },
        },
        "balanced": {},
        "strict": {
            "failed_logins": {
                **{"failures": 5, "slow_failures": 15, "day_failures": 50},
                **{"users": 4, "addresses": 3, "attempts": 20},
            },
            "scanning": {"paths": 10, "slow_paths": 20},
            "enumeration": {
                **{"objects": 30, "slow_objects": 50, "day_objects": 100},
                **{"found": 200, "refused": 30, "keys": 5},
            },
            "request_rate": {"requests": 600, "most": 1800},
            "error_ratio": {"requests": 20},
            "campaign": {
                **{"sources": 10, "failures": 10, "slow_failures": 30, "paths": 15, "objects": 30, "requests": 600},
            },
        },
    }
)
"""What each profile changes: how much there has to be of a thing. ``relaxed`` asks for twice as much, ``strict`` for
half."""


def profile(value: object) -> Profile:
    """Read the name of a profile."""
    return values.choice(*PROFILES)(value)


def _with(base: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """Return `base` with `changes`, which win; objects are merged, and true is what the base has."""
    merged = dict(base)
    for name, change in changes.items():
        known = merged.get(name)
        if isinstance(known, Mapping) and isinstance(change, Mapping):
            merged[name] = {**known, **change}
        elif known is None or change is not True:
            merged[name] = change
    return merged
