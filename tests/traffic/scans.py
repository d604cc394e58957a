"""Attacks that look for something: paths, objects, forbidden places, and holes in what is asked."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import ClassVar

from .asking import BROWSERS, HOUR, MINUTE, WORDS, Actor, Sent, every, item, missing, public

HOME = "192.0.2.20"


def guess(chance: random.Random) -> str:
    """Return a path of a word list."""
    ending = chance.choice(("", "/", ".bak", ".old", ".json", ".txt", ".zip"))
    return "/" + "/".join(chance.sample(WORDS, chance.choice((1, 1, 2)))) + ending


class Scan(Actor):
    """Asks for what may be there by a list of words."""

    pause: ClassVar[float] = 0.05

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(self.pause, self.seconds, chance, 0.1):
            yield missing(at, HOME, guess(chance))


class ScanFast(Scan):
    seconds = 2 * MINUTE


class ScanEvery13Seconds(Scan):
    seconds, pause = 30 * MINUTE, 13.0


class ScanEveryMinute(Scan):
    seconds, pause = HOUR, 60.0


class Dirb(Actor):
    """A scanner's whole run of two thousand words, under a browser's name."""

    seconds = MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number in range(2_000):
            path = "/.git/HEAD" if number == 0 else "/phpmyadmin/" if number == 900 else guess(chance)
            yield missing(number * 0.03, HOME, path)


class ScanFromManyAddresses(Actor):
    """Fifty addresses share a list of words."""

    seconds = 15 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(1, self.seconds, chance):
            yield missing(at, public(chance.randrange(50), "192.4"), guess(chance), chance.choice(BROWSERS))


class ScanWithinA64(Actor):
    """Another address of one /64 for every path."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(3, self.seconds, chance)):
            yield missing(at, f"2001:db8:ff02:1::{number:x}", guess(chance))


class Enumeration(Actor):
    """Counts through the numbers of items."""

    pause: ClassVar[float] = 0.5
    found: ClassVar[float] = 0.0

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(self.pause, self.seconds, chance)):
            yield item(at, HOME, 100_000 + number, 200 if chance.random() < self.found else 404)


class EnumerationOfNothing(Enumeration):
    seconds = 5 * MINUTE


class EnumerationMostlyFound(Enumeration):
    """Forty in a hundred are missing."""

    pause, found = 0.33, 0.6


class EnumerationSlow(Enumeration):
    """One every twenty seconds; nine in ten are missing."""

    seconds, pause, found = HOUR, 20.0, 0.1


class EnumerationAllFound(Enumeration):
    """Another person's item at every number."""

    pause, found = 0.33, 1.0


class WordpressProbe(Actor):
    """Looks for the pages of well-known software."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        paths = ("wp-login.php", "xmlrpc.php", "wp-admin/setup-config.php", "blog/wp-login.php", "wp-content/x.php")
        for number, path in enumerate(paths):
            yield missing(number * 4.0, HOME, f"/{path}")


class DotfileProbe(Actor):
    """Three files that hold secrets where they are served by mistake."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, path in enumerate(("/.env", "/.git/config", "/.aws/credentials")):
            yield missing(number * 20.0, HOME, path)


class ForcedBrowsing(Actor):
    """Thirty places that only others may see."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(8, 240, chance)):
            path = f"/admin/{WORDS[number]}"
            yield Sent(at, HOME, path, 403, path)


class Fuzzing(Actor):
    """Bodies that make no sense, five a second."""

    seconds = 5 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.2, self.seconds, chance):
            status = 500 if chance.random() < 0.05 else 422
            yield Sent(at, HOME, "/api/orders", status, "/api/orders", "POST", BROWSERS[5])


ACTORS: tuple[type[Actor], ...] = (
    ScanFast,
    ScanEvery13Seconds,
    ScanEveryMinute,
    Dirb,
    ScanFromManyAddresses,
    ScanWithinA64,
    EnumerationOfNothing,
    EnumerationMostlyFound,
    EnumerationSlow,
    EnumerationAllFound,
    WordpressProbe,
    DotfileProbe,
    ForcedBrowsing,
    Fuzzing,
)
