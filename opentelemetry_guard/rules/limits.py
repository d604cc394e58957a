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
from operator import itemgetter

from ..decision.patterns import Patterns

DEFAULT_WINDOW = 60
"""Seconds of a global limit that names no window, as in fastapi-guard."""
MOST_CLIENTS = 20_000
"""Clients (times limits) that are remembered; beyond it the one that was idle for the longest is forgotten."""
MOST_TIMES = 500_000
"""Requests that are remembered over all clients; about 16 MB."""

LONGEST_PATH = 8192
"""Characters of a path that templates with a parameter inside a segment are held against."""

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
        templates: dict[str, Limit] = {}
        for path, (requests, window) in endpoints.items():
            checked = _checked(Limit(path, requests, window), f"endpoint_rate_limits[{path!r}]", problems)
            if checked is not None:
                (templates if "{" in path else self._paths)[path] = checked
        self._templates = _Templates(templates, problems)
        self.problems = tuple(problems)

    def __bool__(self) -> bool:
        return bool(self._global or self._paths or self._templates)

    def of(self, path: str) -> tuple[Limit, ...]:
        """Return the limits that a request to `path` must keep: its endpoint's first, then the global one."""
        limit = self._paths.get(path)
        if limit is None:
            limit = self._templates.of(path)
        return tuple(found for found in (limit, self._global) if found is not None)


def _checked(limit: Limit, field: str, problems: list[str]) -> Limit | None:
    if limit.requests >= 0 and limit.window > 0:
        return limit
    problems.append(
        f"{field} is {limit.requests} requests in {limit.window} s and is ignored: "
        "requests must not be negative, and the window must be at least 1 s"
    )
    return None


class _Templates:
    """Limits of routes' templates, found by a look-up for each shape that templates have, however many they are.

    A shape is the number of a template's segments, which of them are words, and whether any text may follow. What has
    a parameter beside text in one segment, or ``:path`` before the end, is left to one matcher (`Patterns`).
    """

    __slots__ = ("_by_pattern", "_by_shape", "_patterns")

    def __init__(self, limits: Mapping[str, Limit], problems: list[str]) -> None:
        self._by_shape: dict[_Shape, dict[tuple[str, ...], tuple[int, Limit]]] = {}
        self._by_pattern: dict[str, tuple[int, Limit]] = {}
        for place, (path, limit) in enumerate(limits.items()):
            shape, words = _shape(path)
            if shape is None:
                self._by_pattern.setdefault(_expression(path), (place, limit))
            else:
                self._by_shape.setdefault(shape, {}).setdefault(words, (place, limit))
        self._patterns = Patterns(self._by_pattern, LONGEST_PATH)
        problems += [f"endpoint_rate_limits: {problem}" for problem in self._patterns.problems]

    def __bool__(self) -> bool:
        return bool(self._by_shape or self._patterns)

    def of(self, path: str) -> Limit | None:
        """Return the limit of the first template that a path has, None for none."""
        found: list[tuple[int, Limit]] = []
        if self._by_shape:
            segments = path.split("/")
            for shape, known in self._by_shape.items():
                if words := shape.words(segments):
                    found += [known[words]] if words in known else []
        if self._patterns and (pattern := self._patterns.find(path[:LONGEST_PATH])) is not None:
            found.append(self._by_pattern[pattern])
        return min(found, key=itemgetter(0))[1] if found else None


@dataclass(frozen=True, slots=True)
class _Shape:
    """What templates have in common that are looked up together."""

    length: int
    words_at: tuple[int, ...]
    has_rest: bool

    def words(self, segments: Sequence[str]) -> tuple[str, ...]:
        """Return the words of a path's segments where this shape has words; () if the path is of another shape."""
        if not (len(segments) > self.length if self.has_rest else len(segments) == self.length):
            return ()
        words = tuple(segments[index] for index in self.words_at)
        parameters = self.length - len(words)
        # A parameter is never empty.
        full = parameters == 0 or all(segments[i] for i in range(self.length) if i not in self.words_at)
        return words if full else ()


def _shape(path: str) -> tuple[_Shape | None, tuple[str, ...]]:
    """Return a template's shape and its words; None where it is looked for by a regular expression."""
    segments = path.split("/")
    has_rest = (last := _PARAMETER.fullmatch(segments[-1])) is not None and bool(last[1])
    if has_rest:
        segments.pop()
    words = {index: segment for index, segment in enumerate(segments) if "{" not in segment}
    others = [_PARAMETER.fullmatch(segment) for segment in segments if "{" in segment]
    if not words or not all(parameter and not parameter[1] for parameter in others):
        return None, ()
    return _Shape(len(segments), tuple(words), has_rest), tuple(words.values())


def _expression(path: str) -> str:
    """Return a template as a regular expression of `Patterns`, for a whole path in its own case."""
    parts: list[str] = []
    end = 0
    for parameter in _PARAMETER.finditer(path):
        parts += [re.escape(path[end : parameter.start()]), ".*" if parameter[1] else "[^/]+"]
        end = parameter.end()
    return rf"(?-i:\A{''.join(parts)}{re.escape(path[end:])})$"


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
