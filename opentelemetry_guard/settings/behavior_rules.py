"""What counts as conspicuous: the thresholds of the behavioural analysis, as data that a setting can change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TypeVar

_Rule = TypeVar("_Rule")


@dataclass(frozen=True, slots=True)
class FailedLogins:
    """Failed logins of one address, or against one user id.

    Attributes:
        window: seconds.
        failures: of one address, or against one user id.
        users: distinct user ids that failed from one address: credential stuffing.
        addresses: distinct addresses from which one user id failed: a distributed attack.
        share: of failures among the address's latest requests, about 32; below it nothing is conspicuous, so that
            many users behind one address may mistype.
        statuses: what means a failure on every path.
        login_statuses: what means a failure as well, where the path's last segment says that it is a login.
        login_words: what such a segment has in it, in lower case.
    """

    window: float = 300.0
    failures: int = 10
    users: int = 8
    addresses: int = 5
    share: float = 0.2
    statuses: tuple[int, ...] = (401,)
    login_statuses: tuple[int, ...] = (400, 403)
    login_words: tuple[str, ...] = (
        *("login", "logon", "signin", "sign-in", "sign_in"),
        *("authenticate", "token", "session", "password"),
    )


@dataclass(frozen=True, slots=True)
class Scanning:
    """Distinct paths that one client asked for and that don't exist.

    Attributes:
        window: seconds.
        paths: distinct ones.
        share: of such answers among the client's latest requests, about 32; below it nothing is conspicuous.
        statuses: what means that a path doesn't exist.
    """

    window: float = 300.0
    paths: int = 20
    share: float = 0.3
    statuses: tuple[int, ...] = (404,)


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

    window: float = 60.0
    requests: int = 600
    times: float = 5.0
    score: float = 6.0
    warm_up: int = 100
    own_warm_up: int = 3
    clients: int = 32


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

    window: float = 60.0
    requests: int = 50
    share: float = 0.6
    score: float = 6.0
    others: int = 50
    status: int = 400


@dataclass(frozen=True, slots=True)
class BehaviorRules:
    """All rules; a detector that is None is switched off.

    Attributes:
        cooldown: seconds between two events about one incident.
        max_clients: addresses that are remembered; of user ids a quarter as many, and of suspects a sixteenth.
    """

    cooldown: float = 300.0
    max_clients: int = 100_000
    failed_logins: FailedLogins | None = FailedLogins()
    scanning: Scanning | None = Scanning()
    request_rate: RequestRate | None = RequestRate()
    error_ratio: ErrorRatio | None = ErrorRatio()

    @classmethod
    def resolve(cls, changes: Mapping[str, object] | None = None) -> BehaviorRules:
        """Return the default rules with `changes`.

        Args:
            changes: by rule; a detector's is an object with its attributes, or None, which switches it off.

        Raises:
            ValueError: a rule or a value is not one that there is.
        """
        return _changed(cls(), changes or {}, "")


_LEAST: Mapping[str, float] = {"window": 1, "max_clients": 16, "times": 1}
_MOST: Mapping[str, float] = {
    "window": 86_400,
    "cooldown": 86_400,
    "max_clients": 10_000_000,
    "share": 1,
    # A bit map of 256 bits counts no more than these well.
    "paths": 200,
    "users": 200,
    "addresses": 200,
    "clients": 64,
}


def _changed(rule: _Rule, changes: object, where: str) -> _Rule:
    names = [field.name for field in fields(rule)]  # type: ignore[arg-type]
    if not isinstance(changes, Mapping):
        raise ValueError(_refusal(where, changes, f"it must be an object with some of {', '.join(names)}, or null"))
    values = {}
    for name, value in changes.items():
        if name not in names:
            raise ValueError(_refusal(f"{where}{name}", value, f"there is no such rule; there are {', '.join(names)}"))
        values[name] = _value(name, value, getattr(type(rule)(), name), f"{where}{name}")
    return replace(rule, **values)  # type: ignore[type-var]


def _value(name: str, value: object, default: object, where: str) -> object:
    if isinstance(default, tuple):
        return _items(value, type(default[0]), where)
    if isinstance(default, int | float):
        return _number(name, value, isinstance(default, int), where)
    return None if value is None else _changed(default, value, f"{where}.")


def _items(value: object, kind: type, where: str) -> tuple[object, ...]:
    listed = isinstance(value, list | tuple)
    if not listed or not all(_is_item(item, kind) for item in value):  # type: ignore[attr-defined]
        what = "statuses from 400 to 599, like [401]" if kind is int else 'words in lower case, like ["login"]'
        raise ValueError(_refusal(where, value, f"it must be a list of {what}"))
    return tuple(value)  # type: ignore[arg-type]


def _is_item(item: object, kind: type) -> bool:
    return type(item) is kind and (kind is not int or item in range(400, 600))


def _number(name: str, value: object, whole: bool, where: str) -> float:
    least, most = _LEAST.get(name, 1 if whole else 0), _MOST.get(name, math.inf)
    is_number = not isinstance(value, bool) and isinstance(value, int if whole else int | float)
    # NaN compares with nothing, so it is refused as well.
    if not is_number or not least <= value <= most or value == math.inf:  # type: ignore[operator]
        kind = "a whole number" if whole else "a number"
        bounds = f"from {least:g} to {most:g}" if most < math.inf else f"of at least {least:g}"
        raise ValueError(_refusal(where, value, f"it must be {kind} {bounds}"))
    return value  # type: ignore[return-value]


def _refusal(where: str, value: object, remedy: str) -> str:
    return f"behavior rule {where.rstrip('.') or '(all)'} is {value!r}, which can't be used: {remedy}"
