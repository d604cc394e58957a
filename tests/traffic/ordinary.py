"""A hundred and fifty people who use the application: what every actor is seen among."""

from __future__ import annotations

import random
from collections.abc import Iterator

from .asking import BROWSERS, MINUTE, Sent, failed_login, in_order, item, logged_in, missing, page

PEOPLE = 150
DEAD_LINKS = 12


def ordinary(chance: random.Random, seconds: float) -> list[Sent]:
    """Return their requests in the order of time; each comes about every ten minutes."""
    return list(in_order(*(_person(number, random.Random(chance.random()), seconds) for number in range(PEOPLE))))


def address_of(number: int) -> str:
    """Return where a person is: a fifth have IPv6."""
    return f"2001:db8:{number:x}:1::{number:x}" if number % 5 == 0 else f"198.51.{number % 4}.{number}"


def _person(number: int, chance: random.Random, seconds: float) -> Iterator[Sent]:
    address, agent = address_of(number), chance.choice(BROWSERS)
    at = chance.uniform(0, 10 * MINUTE)
    while at < seconds:
        for sent in _visit(at, address, agent, chance):
            if sent.at < seconds:
                yield sent
        at += chance.expovariate(1 / (10 * MINUTE)) + 30


def _visit(at: float, address: str, agent: str, chance: random.Random) -> Iterator[Sent]:
    yield from page(at, address, f"p{chance.randrange(40)}", agent, assets=chance.choice((1, 3, 6)))
    if chance.random() < 0.2:
        yield missing(at + 0.5, address, "/favicon.ico", agent)
    if chance.random() < 0.4:
        at += chance.uniform(5, 20)
        while chance.random() < 0.12:
            yield failed_login(at, address, agent)
            at += chance.uniform(3, 12)
        yield logged_in(at, address, agent)
    for _ in range(chance.randrange(1, 8)):
        at += chance.uniform(1, 15)
        kind = chance.random()
        if kind < 0.6:
            yield item(at, address, chance.randrange(500), 200 if chance.random() < 0.97 else 404, agent)
        elif kind < 0.8:
            yield Sent(at, address, "/search", 200, "/search", agent=agent, query=f"q=thing+{chance.randrange(99)}")
        elif kind < 0.96:
            yield Sent(at, address, "/api/state", 200, "/api/state", agent=agent)
        elif kind < 0.98:
            yield missing(at, address, f"/old/page-{chance.randrange(DEAD_LINKS)}", agent)
        else:
            yield Sent(at, address, "/search", 422, "/search", agent=agent)
