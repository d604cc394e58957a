"""An hour of what ordinary clients send to `unguarded_app`, the same at every run."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

import orjson

from .unguarded_app import PASSWORD

REQUESTS = 10_000
HOUR = 3600.0
_OFFICE = "198.51.100.200"
"""The address that a hundred people share."""

_PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148"
_DESKTOP = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36"
_CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
_LIBRARY = "python-httpx/0.28.1"


class Sent(NamedTuple):
    """One request: when (seconds into the hour), by whom, for what, and the status that it gets."""

    at: float
    address: str
    agent: str
    method: str
    path: str
    expected: int
    body: bytes = b""
    authorization: str = ""


def normal_traffic() -> list[Sent]:
    """Return `REQUESTS` requests in the order of their times."""
    chance = random.Random(20_261_122)
    sent = [*_monitoring(), *_crawling(chance), *_feeds(chance)]
    for number in itertools.count():
        if len(sent) >= REQUESTS:
            return sorted(sent[:REQUESTS])
        address = _OFFICE if number % 12 == 0 else f"192.0.{number >> 8}.{number & 255}"
        sent += _visit(chance, address, chance.uniform(0, HOUR - 300))
    raise AssertionError("unreachable")


def _monitoring() -> Iterator[Sent]:
    for second in range(0, int(HOUR), 10):
        yield Sent(second, "198.51.100.1", _LIBRARY, "GET", "/health", 200)


def _crawling(chance: random.Random) -> Iterator[Sent]:
    """A search engine: what it asks every site for, and pages that were there once."""
    for path in ("/robots.txt", "/sitemap.xml", "/ads.txt"):
        yield Sent(1.0, "198.51.100.2", _CRAWLER, "GET", path, 404)
    for visit in range(200):
        stale = visit % 7 == 0
        number = chance.randrange(1000, 1500) if stale else chance.randrange(1000)
        yield Sent(5 + visit * 17.0, "198.51.100.2", _CRAWLER, "GET", f"/items/{number}", 404 if stale else 200)


def _feeds(chance: random.Random) -> Iterator[Sent]:
    """Phones that poll, and whose token expires once in a while."""
    for phone in range(20):
        address = f"198.51.101.{phone}"
        for poll in range(100):
            at = phone + poll * 35 + chance.uniform(0, 3)
            if poll % 40 == 39:
                yield Sent(at, address, _PHONE, "GET", "/api/feed", 401, authorization="Bearer stale")
                at += 0.5
            yield Sent(at, address, _PHONE, "GET", "/api/feed", 200, authorization="Bearer fresh")


def _visit(chance: random.Random, address: str, at: float) -> Iterator[Sent]:
    """One person with a browser."""
    phone = chance.random() < 0.4
    agent = _PHONE if phone else _DESKTOP

    def get(path: str, expected: int) -> Sent:
        return Sent(at, address, agent, "GET", path, expected)

    yield get("/", 200)
    yield get("/favicon.ico", 404)
    if phone:
        yield get("/apple-touch-icon-precomposed.png", 404)
        yield get("/apple-touch-icon.png", 404)
    for _ in range(chance.randrange(1, 9)):
        at += chance.uniform(1, 20)
        kind = chance.random()
        if kind < 0.75:
            yield get(f"/items/{chance.randrange(1000)}", 200)
        elif kind < 0.80:
            yield get(f"/items/{chance.randrange(1000, 1100)}", 404)  # a link that is out of date
        elif kind < 0.83:
            yield get("/items/none", 422)
        elif kind < 0.86:
            yield get("/search?q=a", 422)  # typed too fast
            at += 1
            yield get("/search?q=apples", 200)
        elif kind < 0.865:
            yield get("/admin/reports", 403)  # somebody else's bookmark
        elif kind < 0.96:
            yield get("/search?q=50%25%20off%20..%20today&page=2", 200)
        else:
            user = f"user{chance.randrange(500)}"
            for password in ["mistyped"] * (chance.random() < 0.3) + [PASSWORD]:
                body = orjson.dumps({"user": user, "password": password})
                yield Sent(at, address, agent, "POST", "/login", 200 if password == PASSWORD else 401, body)
                at += chance.uniform(3, 10)
