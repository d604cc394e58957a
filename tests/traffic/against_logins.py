"""Attacks against logins: guessing, stuffing and spraying, fast and slow, from one place and from many."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import ClassVar

from .asking import (
    BROWSERS,
    HOUR,
    MINUTE,
    Actor,
    Crowd,
    Sent,
    every,
    failed_login,
    item,
    logged_in,
    page,
    public,
)

HOME = "192.0.2.10"


class Guessing(Actor):
    """Guesses one password after the other from one address."""

    pause: ClassVar[float] = 0.2
    status: ClassVar[int] = 401
    path: ClassVar[str] = "/login"
    agent: ClassVar[str] = BROWSERS[3]

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(self.pause, self.seconds, chance, 0.05):
            yield failed_login(at, HOME, self.agent, self.status, self.path)


class GuessingFast(Guessing):
    seconds = 3 * MINUTE


class GuessingEveryTenSeconds(Guessing):
    seconds, pause = 30 * MINUTE, 10.0


class GuessingEvery35Seconds(Guessing):
    seconds, pause = HOUR, 35.0


class GuessingEveryMinute(Guessing):
    seconds, pause = HOUR, 60.0


class GuessingAnswered400(Guessing):
    """As fastapi-users and the tutorial's form answer."""

    pause, status, path = 3.0, 400, "/auth/jwt/login"


class GuessingAnswered403(Guessing):
    pause, status = 3.0, 403


class GuessingAnswered422(Guessing):
    pause, status = 3.0, 422


class GuessingAnswered200(Guessing):
    """The answer's body says no."""

    pause, status, seconds = 2.0, 200, 15 * MINUTE


class GuessingAmongOtherRequests(Actor):
    """One guess among ten requests that go well."""

    seconds = 30 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(2, self.seconds, chance)):
            yield failed_login(at, HOME) if number % 10 == 0 else item(at, HOME, chance.randrange(500))


class GuessingWithManyAgents(Actor):
    """A guess every six seconds, each by another browser's name."""

    seconds = 20 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(6, self.seconds, chance):
            yield failed_login(at, HOME, chance.choice(BROWSERS))


class GuessingWithBasic(Actor):
    """Passwords for the Basic scheme, at a page that is no login by name."""

    seconds = 5 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(1, self.seconds, chance)):
            yield Sent(at, HOME, "/admin/", 401, "/admin/", credentials=f"Basic admin:{number}")


class GuessingTokens(Actor):
    """Keys of an API, each another one."""

    seconds = 5 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(0.5, self.seconds, chance)):
            yield Sent(at, HOME, "/api/me", 401, "/api/me", credentials=f"Bearer {number}")


class GuessingResetCodes(Actor):
    """Six digits that were sent by mail, at a page that is no login by name."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.5, self.seconds, chance):
            yield Sent(at, HOME, "/account/confirm", 400, "/account/confirm", "POST", BROWSERS[3])


class SuccessAfterGuessing(Actor):
    """Forty guesses, and the last one is right."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number in range(40):
            yield failed_login(number * 3.0, HOME, BROWSERS[3])
        yield logged_in(121, HOME, BROWSERS[3])
        yield from page(122, HOME, "account", BROWSERS[3])


class Stuffing(Actor):
    """Stolen pairs of names and passwords, spread over addresses."""

    addresses: ClassVar[int] = 500
    tries: ClassVar[int] = 1
    seconds = 15 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        sources = [number for number in range(self.addresses) for _ in range(self.tries)]
        chance.shuffle(sources)
        for position, number in enumerate(sources):
            at = self.seconds * position / len(sources)
            yield failed_login(at, self.address(number), chance.choice(BROWSERS))

    def address(self, number: int) -> str:
        return public(number, "192.1")


class StuffingFrom500Addresses(Stuffing):
    pass


class StuffingFrom100Addresses(Stuffing):
    addresses, tries, seconds = 100, 5, 20 * MINUTE


class OneUserFrom50Addresses(Stuffing):
    addresses, tries = 50, 2


class StuffingLowAndSlow(Stuffing):
    """Forty addresses, each of which tries every five minutes."""

    addresses, tries, seconds = 40, 12, HOUR


class SprayOverA48(Stuffing):
    """Another /64 of one /48 for every try."""

    addresses, seconds = 300, 10 * MINUTE

    def address(self, number: int) -> str:
        return f"2001:db8:ff00:{number:x}::{number:x}"


class SprayWithinA64(Stuffing):
    """Another address of one /64 for every try."""

    addresses, seconds = 60, 10 * MINUTE

    def address(self, number: int) -> str:
        return f"2001:db8:ff01:1::{number:x}"


class StuffingFromOneAddress(Actor):
    """Another user's name at every try, and one pair in forty is right; the application reports what it decides."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(8, self.seconds, chance)):
            right = number % 40 == 39
            sent = logged_in(at, HOME) if right else failed_login(at, HOME)
            yield sent._replace(login=(f"user-{number}", right))


class OneUserReported(Actor):
    """One user's password, from six addresses in turn, in an application that reports whose login failed."""

    seconds = 20 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(20, self.seconds, chance)):
            yield failed_login(at, public(number % 6, "192.2"))._replace(login=("root", False))


class SprayThroughProxies(Crowd):
    """Twenty-five addresses that try once every two minutes, among others' requests of the same proxies."""

    seconds = HOUR
    people = 25

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        for at in every(120, self.seconds, chance):
            yield failed_login(at, public(number, "192.3"), chance.choice(BROWSERS))
            yield item(at + 5, public(number, "192.3"), chance.randrange(500))


ACTORS: tuple[type[Actor], ...] = (
    GuessingFast,
    GuessingEveryTenSeconds,
    GuessingEvery35Seconds,
    GuessingEveryMinute,
    GuessingAnswered400,
    GuessingAnswered403,
    GuessingAnswered422,
    GuessingAnswered200,
    GuessingAmongOtherRequests,
    GuessingWithManyAgents,
    GuessingWithBasic,
    GuessingTokens,
    GuessingResetCodes,
    SuccessAfterGuessing,
    StuffingFrom500Addresses,
    StuffingFrom100Addresses,
    OneUserFrom50Addresses,
    StuffingLowAndSlow,
    SprayOverA48,
    SprayWithinA64,
    StuffingFromOneAddress,
    OneUserReported,
    SprayThroughProxies,
)
