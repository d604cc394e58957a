"""Requests of a quarter of an hour as an application sees them: made of nothing but arithmetic, so always the same."""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry_guard.instrumentation.http.findings import AnsweredRequest

Timed = tuple[float, AnsweredRequest]

DURATION = 900.0
"""Seconds that the normal traffic takes."""

AGENTS = tuple(f"Mozilla/5.0 (X11; Linux x86_64) Browser/{version}.0" for version in range(100, 112))


def answered(
    address: str,
    path: str = "/",
    status_code: int = 200,
    *,
    user: str | None = None,
    route: str | None = None,
    method: str = "GET",
    user_agent: str = AGENTS[0],
) -> AnsweredRequest:
    """Return one request; its route is the path where nothing else is said and something was found there."""
    found = path if status_code < 400 else None
    return AnsweredRequest(address, user, method, path, route or found, status_code, 0.01, user_agent)


def normal_traffic() -> list[Timed]:
    """Return 10,000 requests in order of time: browsers, an office, pollers, health checks, a crawler, and mishaps."""
    requests = [
        *_health_checks(),
        *_pollers(),
        *_browsers(),
        *_office(),
        *_crawler(),
        *_ended_sessions(),
        *_mistyped_passwords(),
    ]
    requests.sort(key=lambda timed: timed[0])
    assert len(requests) >= 10_000
    return requests[:10_000]


def _health_checks() -> Iterator[Timed]:
    """Two load balancers that ask every 5 seconds."""
    for check in range(int(DURATION / 5)):
        for balancer in (1, 2):
            yield check * 5 + balancer, answered(f"10.0.0.{balancer}", "/healthz", user_agent="health-check/1.0")


def _pollers() -> Iterator[Timed]:
    """A dashboard that asks twice a second, and a client that looks up what may not exist."""
    for tick in range(int(DURATION * 2)):
        yield tick / 2, answered("192.0.2.50", "/api/state", user="dashboard", user_agent="poller/2")
    for tick in range(0, int(DURATION), 10):
        found = 200 if tick % 30 else 404
        yield (
            tick + 0.3,
            answered("192.0.2.51", f"/api/items/{tick}", found, route="/api/items/{number}", user_agent="sync/1"),
        )


def _page(at: float, address: str, page: int, assets: int, user: str | None, agent: str) -> Iterator[Timed]:
    """One page and its assets within half a second, as a browser that visits for the first time loads it."""
    yield at, answered(address, f"/pages/{page}", route="/pages/{page}", user=user, user_agent=agent)
    for asset in range(assets):
        yield at + 0.1 + asset * 0.008, answered(address, f"/static/{page % 7}/{asset}.js", user=user, user_agent=agent)


def _browsers() -> Iterator[Timed]:
    """Sixty visitors at home who load 50 assets first and few later; some links are dead, icons are missing."""
    for visitor in range(60):
        address = f"198.51.{visitor % 7}.{visitor}" if visitor % 3 else f"2001:db8:{visitor:x}::{visitor:x}"
        agent = AGENTS[visitor % len(AGENTS)]
        for visit in range(4):
            at = (visitor * 13.7 + visit * 31.1) % DURATION
            yield from _page(at, address, visitor + visit, 50 if visit == 0 else 5, None, agent)
            if (visitor + visit) % 5 == 0:
                yield at + 0.7, answered(address, f"/old/{visitor}", 404, user_agent=agent)
                yield at + 0.8, answered(address, "/favicon.ico", 404, user_agent=agent)


def _office() -> Iterator[Timed]:
    """Eighty people behind one address, who come within ten minutes; every eighth mistypes the password first."""
    for person in range(80):
        agent = AGENTS[person % len(AGENTS)]
        arrives = person * 7.5
        if person % 8 == 0:
            yield arrives, answered("203.0.113.9", "/login", 401, method="POST", user_agent=agent)
        yield arrives + 4, answered("203.0.113.9", "/login", 200, method="POST", user_agent=agent)
        yield from _page(arrives + 5, "203.0.113.9", person, 40, f"person-{person}", agent)
        for click in range(8):
            at = (arrives + 20 + click * 17) % DURATION
            yield at, answered("203.0.113.9", f"/api/{click}", user=f"person-{person}", user_agent=agent)


def _crawler() -> Iterator[Timed]:
    """A search engine that follows a link every 4 seconds; one in twelve is dead."""
    for link in range(int(DURATION / 4)):
        status = 404 if link % 12 == 0 else 200
        yield link * 4 + 0.5, answered("192.0.2.99", f"/archive/{link}", status, user_agent="crawler/1")


def _ended_sessions() -> Iterator[Timed]:
    """Open pages whose sessions end: everything that they load answers 401 once, then works after a new login."""
    for person in range(6):
        at, address = 100.0 + person * 120, f"198.51.200.{person}"
        for call in range(30):
            yield at + call * 0.01, answered(address, f"/api/widgets/{call}", 401)
        yield at + 5, answered(address, "/login", 200, method="POST")
        for call in range(30):
            yield at + 6 + call * 0.01, answered(address, f"/api/widgets/{call}", user=f"widgets-{person}")


def _mistyped_passwords() -> Iterator[Timed]:
    """People who need up to four attempts."""
    for person in range(25):
        at, address = 20.0 + person * 33, f"198.51.100.{person}"
        for attempt in range(person % 4 + 1):
            yield at + attempt * 6, answered(address, "/login", 401, method="POST", user=f"person-{person}")
        yield at + 30, answered(address, "/login", 200, method="POST", user=f"person-{person}")
        yield from _page(at + 31, address, person, 20, f"person-{person}", AGENTS[person % len(AGENTS)])
