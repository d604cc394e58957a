"""Innocents of other kinds than the first two sets have, written before it was known who of them is accused."""

from __future__ import annotations

import random
from collections.abc import Iterator

from .asking import (
    BROWSERS,
    HOUR,
    MINUTE,
    WORDS,
    Actor,
    Crowd,
    Sent,
    every,
    failed_login,
    item,
    logged_in,
    missing,
    page,
    public,
)

PHONE = "ExampleApp/8.0 (Android 15)"


class ProbesThatExpectNo(Actor):
    """Monitoring from five places that makes sure that what is closed stays closed."""

    seconds = 2 * HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(6, self.seconds, chance, 0.02)):
            address, path = f"203.0.130.{number % 5}", ("/api/me", "/admin", "/metrics")[number % 3]
            yield Sent(at, address, path, 401 if number % 3 != 1 else 403, path, agent="Uptime/5")


class PhonesAfterAnOutage(Crowd):
    """Three hundred phones whose tokens ran out during an outage: refused, a refresh that some can't have, a login."""

    seconds = 15 * MINUTE
    people = 300

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        address, token = public(number, "203.30"), f"Bearer expired-{number}"
        at = chance.triangular(0, 10 * MINUTE, 60)
        for path in ("/api/feed", "/api/messages", "/api/profile"):
            yield Sent(at, address, path, 401, path, agent=PHONE, credentials=token)
        can_refresh = chance.random() < 0.7
        status = 200 if can_refresh else 400
        yield Sent(at + 1, address, "/oauth/token", status, "/oauth/token", "POST", PHONE)
        if not can_refresh:
            yield logged_in(at + chance.uniform(10, 60), address, PHONE)
        yield Sent(at + 70, address, "/api/feed", 200, "/api/feed", agent=PHONE)


class SmokeTests(Actor):
    """After each deployment: forty pages that have to be there, and a dozen that have to be gone."""

    seconds = HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for start in range(0, int(self.seconds), 900):
            for number in range(40):
                yield Sent(
                    start + number * 0.3, "203.0.130.6", f"/pages/p{number}", route="/pages/{name}", agent="k6/1.0"
                )
            for number in range(12):
                yield missing(start + 13 + number * 0.3, "203.0.130.6", f"/internal/{WORDS[number]}", "k6/1.0")


class MailScanners(Actor):
    """Machines of mail providers that open the eight links of a newsletter, by HEAD and by GET, for each reader."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for reader, at in enumerate(every(3, self.seconds, chance, 0.9)):
            address = public(chance.randrange(12), "203.31")
            for link in range(8):
                path, query = f"/news/{link}", f"reader={reader}"
                sent = Sent(at + link * 0.1, address, path, 405, "/news/{number}", "HEAD", BROWSERS[3], query)
                yield sent
                yield sent._replace(at=sent.at + 0.02, method="GET", status=200)


class ProxyAtNine(Crowd):
    """Three hundred people with the same managed browser behind one proxy, who log in within twenty minutes."""

    seconds = 25 * MINUTE
    people = 300

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        at, address, agent = chance.triangular(0, 20 * MINUTE, 10 * MINUTE), "203.0.130.8", BROWSERS[1]
        while chance.random() < 0.1:
            yield failed_login(at, address, agent)
            at += chance.uniform(4, 15)
        yield logged_in(at, address, agent)
        yield from page(at + 1, address, f"p{number % 20}", agent)
        for _ in range(6):
            at += chance.uniform(5, 30)
            yield item(at, address, chance.randrange(500), agent=agent)


class BatchImport(Actor):
    """A partner's job that sends five rows a second, three in ten of which are refused as incomplete."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.2, self.seconds, chance):
            status = 422 if chance.random() < 0.3 else 201
            yield Sent(
                at, "203.0.130.9", "/api/import", status, "/api/import", "POST", "partner/2", credentials="Bearer p"
            )


class BadBatch(Actor):
    """The same job with a wrong column: three minutes in which each row is refused, then somebody stops it."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.5, 3 * MINUTE, chance):
            yield Sent(
                at, "203.0.130.10", "/api/import", 422, "/api/import", "POST", "partner/2", credentials="Bearer p"
            )


class Prefetching(Crowd):
    """Sixty browsers that fetch what a page links to, of which some is gone and some is closed."""

    people = 60

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        address, agent = public(number, "203.32"), chance.choice(BROWSERS)
        at = chance.uniform(0, 8 * MINUTE)
        yield from page(at, address, "overview", agent)
        for link in range(15):
            name = WORDS[link]
            if link % 5 == 0:
                yield Sent(at + 1, address, f"/closed/{name}", 403, f"/closed/{name}", agent=agent)
            elif link % 5 == 1:
                yield missing(at + 1, address, f"/gone/{name}", agent)
            else:
                yield Sent(at + 1, address, f"/pages/{name}", route="/pages/{name}", agent=agent)


class RenamedVersion(Crowd):
    """Fifty apps that were not updated, and ask for twelve things of an interface that has another name."""

    seconds = 20 * MINUTE
    people = 50

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        address = public(number, "203.33")
        for start in every(2 * MINUTE, self.seconds, chance, 0.5):
            for call in range(12):
                yield missing(start + call * 0.2, address, f"/api/v1/{WORDS[call]}", PHONE)


class OneOldApp(Actor):
    """A single client of the former interface, which asks for thirty things of it within a minute."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for start in (0, 300):
            for call in range(30):
                yield missing(start + call * 2.0, "203.0.130.12", f"/api/v1/{WORDS[call]}/list", PHONE)


class PasswordManagers(Crowd):
    """Browsers that ask every site whether it says where passwords are changed, and whether its 404s are 404s."""

    people = 80

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        address, at = public(number, "203.34"), chance.uniform(0, 9 * MINUTE)
        yield from page(at, address, "account", BROWSERS[2])
        yield missing(at + 1, address, "/.well-known/change-password", BROWSERS[2])
        name = "resource-that-should-not-exist-whose-status-code-should-not-be-200"
        yield missing(at + 1.1, address, f"/.well-known/{name}", BROWSERS[2])
        yield missing(at + 1.2, address, "/apple-touch-icon-precomposed.png", BROWSERS[2])


class SchoolClass(Crowd):
    """Thirty pupils on one network who log in for the first time with what the teacher has written on the board."""

    people = 30

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        at, agent = chance.uniform(0, 3 * MINUTE), chance.choice(BROWSERS[:4])
        while chance.random() < 0.4:
            yield failed_login(at, "203.0.130.14", agent)
            at += chance.uniform(8, 25)
        yield logged_in(at, "203.0.130.14", agent)
        for _ in range(10):
            at += chance.uniform(5, 40)
            yield item(at, "203.0.130.14", chance.randrange(500), agent=agent)


class LinkChecker(Actor):
    """The owner's tool that follows all links of the site; one in fifteen is dead."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(1, self.seconds, chance)):
            if number % 15 == 0:
                yield missing(at, "203.0.130.15", f"/{WORDS[number // 15 % 80]}/{WORDS[number % 80]}", "LinkChecker/10")
            else:
                yield Sent(at, "203.0.130.15", f"/pages/p{number}", route="/pages/{name}", agent="LinkChecker/10")


class DevicesWithOldKeys(Crowd):
    """Two hundred devices whose keys were rotated: each sends its own old one every half minute."""

    seconds = 20 * MINUTE
    people = 200

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        for at in every(30, self.seconds, chance, 0.05):
            yield Sent(
                at,
                public(number, "203.35"),
                "/v1/ingest",
                401,
                "/v1/ingest",
                "POST",
                "device/3",
                api_key=f"old-{number}",
            )


class VpnWhoseTokensEnd(Crowd):
    """Eighty people behind one address whose tokens all end at the same minute; pages get new ones."""

    seconds = 20 * MINUTE
    people = 80

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        agent = chance.choice(BROWSERS[:3])
        for at in every(20, self.seconds, chance):
            is_over = 10 * MINUTE <= at < 10 * MINUTE + 25
            sent = Sent(at, "203.0.130.17", "/api/state", 200, "/api/state", agent=agent)
            if is_over:
                yield sent._replace(status=401, credentials=f"Bearer {number}")
                yield Sent(at + 0.1, "203.0.130.17", "/oauth/token", 200, "/oauth/token", "POST", agent)
            yield sent._replace(at=at + 0.3)


class NamedUserWhoExports(Actor):
    """Somebody with an account who takes all of a thousand documents along."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(0.3, 5 * MINUTE, chance)):
            yield Sent(
                at, "203.0.130.18", f"/documents/{number}", route="/documents/{document}", agent=BROWSERS[5], user="eve"
            )


class MapOfTiles(Crowd):
    """Twenty people who move a map: each view is forty tiles, of which those at sea are missing."""

    people = 20

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        address, agent = public(number, "203.36"), chance.choice(BROWSERS)
        for start in every(25, 5 * MINUTE, chance, 0.6):
            for tile in range(40):
                x, status = chance.randrange(2_000), 404 if chance.random() < 0.15 else 200
                path = f"/tiles/9/{x}/{tile}.png"
                yield Sent(start + tile * 0.05, address, path, status, "/tiles/{z}/{x}/{y}.png", agent=agent)


class TrainPassenger(Actor):
    """One person whose address changes with every cell, and whose session does not end by that."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(5, self.seconds, chance)):
            address = public(number // 6, "203.37")
            yield Sent(at, address, "/api/state", 200, "/api/state", agent=BROWSERS[8], user="ann")
            if number % 20 == 19:
                yield failed_login(at + 1, address, BROWSERS[8])._replace(login=("ann", False))
                yield logged_in(at + 6, address, BROWSERS[8])._replace(login=("ann", True))


BENIGN: tuple[type[Actor], ...] = (
    ProbesThatExpectNo,
    PhonesAfterAnOutage,
    SmokeTests,
    MailScanners,
    ProxyAtNine,
    BatchImport,
    BadBatch,
    Prefetching,
    RenamedVersion,
    OneOldApp,
    PasswordManagers,
    SchoolClass,
    LinkChecker,
    DevicesWithOldKeys,
    VpnWhoseTokensEnd,
    NamedUserWhoExports,
    MapOfTiles,
    TrainPassenger,
)
