"""Attacks by numbers: more requests than an application should have to answer."""

from __future__ import annotations

import random
from collections.abc import Iterator

from .asking import BROWSERS, MINUTE, Actor, Sent, every, item, public

HOME = "192.0.2.40"


class FloodFast(Actor):
    """A hundred requests a second from one address."""

    seconds = 2 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.01, self.seconds, chance):
            yield item(at, HOME, chance.randrange(500), agent=BROWSERS[9])


class FloodAtTheStart(FloodFast):
    """As soon as the application has started."""

    warm_up = 0.0


class FloodThatRises(Actor):
    """From nothing to fifty requests a second within half an hour, so slowly that it could become usual."""

    seconds = 30 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        at = 1.0
        while at < self.seconds:
            yield item(at, HOME, chance.randrange(500), agent=BROWSERS[9])
            at += 1 / max(50 * at / self.seconds, 0.2) * chance.uniform(0.8, 1.2)


class FloodFromAThousandAddresses(Actor):
    """Each asks once a second."""

    seconds = MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for second in range(int(self.seconds)):
            for number in range(1_000):
                yield Sent(
                    second + number / 1_000, public(number, "192.5"), "/", route="/", agent=BROWSERS[number % 20]
                )


ACTORS: tuple[type[Actor], ...] = (FloodFast, FloodAtTheStart, FloodThatRises, FloodFromAThousandAddresses)
