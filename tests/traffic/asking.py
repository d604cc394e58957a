"""What an actor is: somebody who sends requests to an application at certain times, and gets the answers that it gives.

An actor is a small class. `Actor.requests` yields what it sends in the order of its times, which are seconds since it
began; chance comes from a seed, so the same seed is always the same traffic.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

MINUTE = 60.0
HOUR = 3600.0

BROWSERS = tuple(
    f"Mozilla/5.0 ({system}) {engine}/{version}.0"
    for system in ("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 14_5", "X11; Linux x86_64", "iPhone")
    for engine in ("Chrome", "Firefox", "Safari")
    for version in range(136, 141)
)
"""What ordinary people's browsers call themselves."""

WORDS = tuple(
    """
    admin administrator api app archive assets auth backup bak beta bin blog cache cfg cms conf config console
    cron data db debug demo dev docs download dump edit error export files forum ftp home html images import
    inc include index info install internal js kibana lib log logs mail manage manager media monitor mysql new
    node old panel php portal private prod public query report root save scripts secret secure server service
    setup shop site source sql src stage staging stats status store support system temp test tmp tools upload
    user users util v1 v2 vendor web webmail wiki www xml zip
    """.split()  # noqa: SIM905  a list of words reads better than a column of strings
)
"""A word list as scanners have them."""


class Sent(NamedTuple):
    """One request and its answer.

    Attributes:
        at: seconds since the actor began.
        address: of the client.
        path: as the server decodes it once.
        status: of the answer.
        route: the template that answers; None where there is none.
        method: of HTTP.
        agent: the User-Agent.
        query: as sent.
        credentials: of the Authorization header, "" without one.
        api_key: of the X-API-Key header, "" without one.
        login: what the application reports of a login: whose, and whether it went well; None where it says nothing.
        user: the user id that the application sets; None where it sets none.
    """

    at: float
    address: str
    path: str
    status: int = 200
    route: str | None = None
    method: str = "GET"
    agent: str = BROWSERS[0]
    query: str = ""
    credentials: str = ""
    login: tuple[str, bool] | None = None
    user: str | None = None
    api_key: str = ""


class Actor:
    """Somebody who sends requests.

    Attributes:
        seconds: how long it goes on.
        warm_up: seconds of ordinary traffic before it begins.
    """

    seconds: ClassVar[float] = 10 * MINUTE
    warm_up: ClassVar[float] = 15 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        """Yield what it sends in the order of time."""
        raise NotImplementedError

    @classmethod
    def name(cls) -> str:
        """Return its name in words."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Za-z])(?=[0-9])|(?<=A)(?=[A-Z])", " ", cls.__name__).lower()


def every(
    seconds: float, until: float, chance: random.Random, jitter: float = 0.2, start: float = 0.0
) -> Iterator[float]:
    """Yield the times of something that happens about every `seconds`."""
    at = start + chance.uniform(0, seconds)
    while at < until:
        yield at
        at += seconds * chance.uniform(1 - jitter, 1 + jitter)


def public(number: int, network: str = "203.0") -> str:
    """Return one of 65,536 addresses."""
    return f"{network}.{number >> 8 & 255}.{number & 255}"


def failed_login(at: float, address: str, agent: str = BROWSERS[0], status: int = 401, path: str = "/login") -> Sent:
    """Return an attempt with a wrong password."""
    return Sent(at, address, path, status, path, "POST", agent)


def logged_in(at: float, address: str, agent: str = BROWSERS[0], status: int = 200) -> Sent:
    """Return an attempt with the right one."""
    return Sent(at, address, "/login", status, "/login", "POST", agent)


def item(at: float, address: str, number: int, status: int = 200, agent: str = BROWSERS[0]) -> Sent:
    """Return a look at one item."""
    return Sent(at, address, f"/items/{number}", status, "/items/{item_id}", agent=agent)


def missing(at: float, address: str, path: str, agent: str = BROWSERS[0]) -> Sent:
    """Return a request for what no route answers."""
    return Sent(at, address, path, 404, agent=agent)


def page(at: float, address: str, name: str, agent: str, assets: int = 5) -> Iterator[Sent]:
    """Yield a page and what it loads."""
    yield Sent(at, address, f"/pages/{name}", route="/pages/{name}", agent=agent)
    for number in range(assets):
        yield Sent(at + 0.1 + number * 0.02, address, f"/static/{number}.js", route="/static", agent=agent)


def in_order(*streams: Iterator[Sent]) -> Iterator[Sent]:
    """Yield what several send in the order of time."""
    yield from sorted((sent for stream in streams for sent in stream), key=lambda sent: sent.at)


class Crowd(Actor):
    """Many who do alike, each by a chance of his own.

    Attributes:
        people: how many they are.
    """

    people: ClassVar[int]

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        """Yield what all of them send."""
        yield from in_order(*(self.person(n, random.Random(chance.random())) for n in range(self.people)))

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        """Yield what one of them sends in the order of time."""
        raise NotImplementedError
