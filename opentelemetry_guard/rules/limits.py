"""Rate limits in sliding windows, in bounded memory.

Of each client and limit the times of the latest passed requests are kept, as
many as the limit allows. One more passes when the oldest of them has left the
window, so no window of any position ever holds more than the limit. A request
that is refused doesn't count: who waits as long as told passes.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

DEFAULT_WINDOW = 60
"""Seconds of a global limit that names no window, as in fastapi-guard."""
MOST_CLIENTS = 20_000
"""Clients (times limits) that are remembered; beyond it the one that was idle for the longest is forgotten."""
MOST_TIMES = 500_000
"""Requests that are remembered over all clients; about 16 MB."""

_PARAMETER = re.compile(r"\{[^{}:]*(:path)?[^{}]*\}")


@dataclass(frozen=True, slots=True)
class Limit:
    """So many requests in so many seconds, of each client.

    Attributes:
        name: the path of `endpoint_rate_limits` that it belongs to, "" for the global one.
        requests: how many pass.
        window: seconds.
    """

    name: str
    requests: int
    window: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request may not pass, and after how many whole seconds one may."""

    limit: Limit
    retry_after: int


class Limits:
    """The limits of one rules object, compiled: which of them apply to a path.

    Args:
        global_limit: requests of a client to the whole application; None or 0 for no limit.
        global_window: seconds of it; None for `DEFAULT_WINDOW`.
        endpoints: ``{path: (requests, window)}``. A path is a request's or a route's template (``/items/{number}``,
            ``/files/{name:path}``); a request's own path wins over templates. 0 requests let nobody pass.

    Attributes:
        problems: what is wrong with limits, in words; such a limit doesn't apply.
    """

    __slots__ = ("_global", "_paths", "_templates", "problems")

    def __init__(
        self,
        global_limit: int | None,
        global_window: int | None,
        endpoints: Mapping[str, tuple[int, int]],
    ) -> None:
        problems: list[str] = []
        self._global: Limit | None = None
        if global_limit:
            limit = Limit("", global_limit, DEFAULT_WINDOW if global_window is None else global_window)
            self._global = _checked(limit, "global_rate_limit", problems)
        self._paths: dict[str, Limit] = {}
        self._templates: list[tuple[re.Pattern[str], Limit]] = []
        for path, (requests, window) in endpoints.items():
            checked = _checked(Limit(path, requests, window), f"endpoint_rate_limits[{path!r}]", problems)
            if checked is None:
                continue
            if "{" in path:
                self._templates.append((_template(path), checked))
            else:
                self._paths[path] = checked
        self.problems = tuple(problems)

    def __bool__(self) -> bool:
        return bool(self._global or self._paths or self._templates)

    def of(self, path: str) -> tuple[Limit, ...]:
        """Return the limits that a request to `path` must keep: its endpoint's first, then the global one."""
        limit = self._paths.get(path)
        if limit is None:
            limit = next((limit for template, limit in self._templates if template.fullmatch(path)), None)
        return tuple(found for found in (limit, self._global) if found is not None)


def _checked(limit: Limit, field: str, problems: list[str]) -> Limit | None:
    if limit.requests >= 0 and limit.window > 0:
        return limit
    problems.append(
        f"{field} is {limit.requests} requests in {limit.window} s and is ignored: "
        "requests must not be negative, and the window must be at least 1 s"
    )
    return None


def _template(path: str) -> re.Pattern[str]:
    """Compile a route's template; a parameter is one segment's text, and any text with the converter ``path``."""
    parts: list[str] = []
    end = 0
    for parameter in _PARAMETER.finditer(path):
        parts += [re.escape(path[end : parameter.start()]), ".*" if parameter[1] else "[^/]+"]
        end = parameter.end()
    return re.compile("".join(parts) + re.escape(path[end:]))


class RateLimiter:
    """Counts requests by client; thread-safe.

    Args:
        most_clients: see `MOST_CLIENTS`.
        most_times: see `MOST_TIMES`.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        *,
        most_clients: int = MOST_CLIENTS,
        most_times: int = MOST_TIMES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_clients = most_clients
        self._most_times = most_times
        self._clock = clock
        # The lock guards the two below: `_remembered` is the sum of the lengths of all values of `_passed`, whose
        # order is that of use. Nothing under it waits.
        self._lock = threading.Lock()
        self._passed: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        self._remembered = 0

    def refusal(self, client: str, limits: Sequence[Limit]) -> Refusal | None:
        """Count a request of `client` and return None if it keeps all `limits`; else return the one that it breaks."""
        now = self._clock()
        with self._lock:
            counts = [self._times((limit.name, client), limit.requests) for limit in limits]
            for limit, passed in zip(limits, counts, strict=True):
                if len(passed) < limit.requests:
                    continue
                wait = limit.window if not passed else passed[0] + limit.window - now
                if wait > 0:
                    return Refusal(limit, math.ceil(wait))
            for limit, passed in zip(limits, counts, strict=True):
                self._remembered += len(passed) < limit.requests
                passed.append(now)
            self._forget()
        return None

    def _times(self, key: tuple[str, str], most: int) -> deque[float]:
        """Return the times of a client's latest passed requests, at most as many as its limit allows today."""
        passed = self._passed.get(key)
        if passed is None:
            passed = self._passed[key] = deque(maxlen=most)
            return passed
        self._passed.move_to_end(key)
        if passed.maxlen != most:
            self._remembered -= len(passed)
            passed = self._passed[key] = deque(passed, most)
            self._remembered += len(passed)
        return passed

    def _forget(self) -> None:
        """Forget the clients that were idle for the longest, as far as the bounds demand; never the latest."""
        while len(self._passed) > 1 and (len(self._passed) > self._most_clients or self._remembered > self._most_times):
            _, passed = self._passed.popitem(last=False)
            self._remembered -= len(passed)
