"""Actors that were written when the thresholds stood, so that what is said of them was not tuned on them."""

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
    in_order,
    item,
    logged_in,
    missing,
    page,
    public,
)
from .scans import guess


class PasswordsExpire(Crowd):
    """Eighty people at home whose passwords have run out: three tries, a reset, and they are in."""

    seconds = 40 * MINUTE
    people = 80

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        address, agent = public(number, "203.20"), chance.choice(BROWSERS)
        at = chance.uniform(0, 30 * MINUTE)
        for attempt in range(3):
            yield failed_login(at + attempt * 9, address, agent)
        yield Sent(at + 40, address, "/reset", 200, "/reset", "POST", agent)
        yield logged_in(at + 120, address, agent)


class PartnerThatPages(Actor):
    """An integration that reads one list, page by page."""

    seconds = 20 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(0.2, self.seconds, chance)):
            yield Sent(
                at, "203.0.120.2", "/api/orders", route="/api/orders", agent="integration/1", query=f"page={number}"
            )


class GalleryThatIsScrolled(Actor):
    """Somebody without an account who looks at hundreds of pictures."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(0.8, 6 * MINUTE, chance, 0.9)):
            yield Sent(at, "203.0.120.3", f"/photos/{number}", route="/photos/{photo}", agent=BROWSERS[4])


class ReleaseThatBreaks(Actor):
    """Three minutes in which sixty people get nothing but 500s, and try again."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.2, 3 * MINUTE, chance, 0.9):
            path = chance.choice(("/api/state", "/search", "/pages/home"))
            yield Sent(at, public(chance.randrange(60), "203.21"), path, 500, path, agent=chance.choice(BROWSERS))


class KiosksBehindOneAddress(Actor):
    """Two hundred screens of one kind that poll every ten seconds."""

    seconds = 15 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.05, self.seconds, chance):
            yield Sent(at, "203.0.120.5", "/api/state", route="/api/state", agent="Kiosk/3")


class RobotWithAnOldSitemap(Actor):
    """A polite robot that looks up thirty pages which had short names."""

    seconds = 30 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(3, self.seconds, chance)):
            if number % 10 == 0 and number // 10 < 30:
                yield missing(at, "203.0.120.6", f"/{WORDS[number // 10]}", "bingbot/2.0")
            else:
                yield Sent(at, "203.0.120.6", f"/pages/p{number % 40}", route="/pages/{name}", agent="bingbot/2.0")


class DeveloperAtWork(Actor):
    """Somebody who tries an interface by hand, and gets it wrong in every way there is."""

    seconds = 20 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        wrong = [f"/api/{word}" for word in WORDS[:12]]
        for at in every(15, self.seconds, chance, 0.9):
            kind = chance.random()
            if kind < 0.3:
                yield missing(at, "203.0.120.7", chance.choice(wrong), "curl/8.9")
            else:
                status = 422 if kind < 0.6 else 401 if kind < 0.7 else 200
                yield Sent(at, "203.0.120.7", "/api/orders", status, "/api/orders", "POST", "curl/8.9")


class TravellerWithOldPassword(Actor):
    """One user whose phone tries the old password from four networks in an hour."""

    seconds = HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(15 * MINUTE, self.seconds, chance)):
            yield failed_login(at, public(number % 4, "203.22"))._replace(login=("ann", False))


class TestsOfTheInterface(Actor):
    """A run of automated tests: thirty logins, five of which have to fail."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(20, self.seconds, chance)):
            address, agent = "203.0.120.9", "HeadlessChrome/140"
            yield failed_login(at, address, agent) if number % 6 == 0 else logged_in(at, address, agent)
            for step in range(5):
                yield item(at + 1 + step, address, step, agent=agent)


class HallThatOpensOnePage(Actor):
    """A hundred and twenty people on one wireless network who open a page within a minute."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        people = (
            page(chance.uniform(60, 120), "203.0.120.10", "keynote", chance.choice(BROWSERS), assets=8)
            for _ in range(120)
        )
        yield from in_order(*people)


class SaleAtNoon(Crowd):
    """Twelve hundred people come within ten minutes; half log in, and one in ten mistypes."""

    seconds = 12 * MINUTE
    people = 1_200

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        address, agent = public(number, "203.23"), chance.choice(BROWSERS)
        at = chance.triangular(0, 10 * MINUTE, 90)
        yield from page(at, address, "sale", agent, assets=6)
        if chance.random() < 0.5:
            while chance.random() < 0.1:
                at += 8
                yield failed_login(at, address, agent)
            yield logged_in(at + 8, address, agent)
        for click in range(chance.randrange(8)):
            yield item(at + 20 + click * 12, address, chance.randrange(500), agent=agent)


class GatewayThatOpensLinks(Actor):
    """Five machines of a mail provider that open each link of a mail, after somebody has used it."""

    seconds = 15 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(3, self.seconds, chance):
            address, token = public(chance.randrange(5), "203.24"), f"{chance.getrandbits(64):016x}"
            yield Sent(at, address, f"/confirm/{token}", 404, "/confirm/{token}", agent=BROWSERS[1])


BENIGN: tuple[type[Actor], ...] = (
    PasswordsExpire,
    PartnerThatPages,
    GalleryThatIsScrolled,
    ReleaseThatBreaks,
    KiosksBehindOneAddress,
    RobotWithAnOldSitemap,
    DeveloperAtWork,
    TravellerWithOldPassword,
    TestsOfTheInterface,
    HallThatOpensOnePage,
    SaleAtNoon,
    GatewayThatOpensLinks,
)


class GuessingInSpells(Actor):
    """Eight guesses every ten minutes."""

    seconds = HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for start in range(0, int(self.seconds), 600):
            for number in range(8):
                yield failed_login(start + number * 4.0, "192.0.3.1", BROWSERS[2])


class StuffingFrom2000Addresses(Actor):
    """One pair from each within an hour."""

    seconds = HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(1.8, self.seconds, chance)):
            yield failed_login(at, public(number, "192.8"), chance.choice(BROWSERS))


class SprayUnderTheSea(Actor):
    """Thirty addresses with four guesses an hour each."""

    seconds = HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(30, self.seconds, chance):
            yield failed_login(at, public(chance.randrange(30), "192.9"), chance.choice(BROWSERS))


class HuntForPanels(Actor):
    """Twenty-five addresses, each of which asks for the same dozen names."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        asked = [(number, word) for number in range(25) for word in WORDS[:12]]
        chance.shuffle(asked)
        for (number, word), at in zip(asked, every(1, self.seconds, chance), strict=False):
            yield missing(at, public(number, "192.10"), f"/{word}/login.php", chance.choice(BROWSERS))


class ScanUnderManyNames(Actor):
    """Another browser's name at every path."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(4, self.seconds, chance)):
            yield missing(at, "192.0.3.5", guess(chance), f"Mozilla/5.0 Browser/{number}")


class NumberedFiles(Actor):
    """Counts through files of a place that no route answers."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(1, self.seconds, chance)):
            yield missing(at, "192.0.3.6", f"/invoices/{10_000 + number}.pdf")


class NamesOfUsers(Actor):
    """Which names there are; seven in ten there aren't."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(2, self.seconds, chance)):
            status = 404 if chance.random() < 0.7 else 200
            yield Sent(at, "192.0.3.7", f"/users/{WORDS[number % len(WORDS)]}{number}", status, "/users/{name}")


class ScrapersTogether(Actor):
    """Fifty addresses share all items among them."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(0.06, self.seconds, chance)):
            yield item(at, public(number % 50, "192.11"), number, agent=BROWSERS[number % 7])


class FloodOfASearch(Actor):
    """Twenty-five expensive requests a second."""

    seconds = 5 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.04, self.seconds, chance):
            yield Sent(at, "192.0.3.9", "/search", route="/search", query=f"q={chance.random()}")


class OneTimeCodes(Actor):
    """Guesses the second factor, at a page that is no login by name."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(2, self.seconds, chance):
            yield Sent(at, "192.0.3.10", "/verify/otp", 400, "/verify/otp", "POST", BROWSERS[8])


class SprayThatSucceeds(Actor):
    """Fifteen users' names from one address, of which three have the password that is tried."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number in range(15):
            right, at = number in (4, 9, 14), number * 6.0
            sent = logged_in(at, "192.0.3.11") if right else failed_login(at, "192.0.3.11")
            yield sent._replace(login=(f"staff-{number}", right))


class FuzzedParameters(Actor):
    """Three hostile bodies a second to twenty routes."""

    seconds = 4 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.33, self.seconds, chance):
            path = f"/api/{chance.choice(WORDS[:20])}"
            yield Sent(at, "192.0.3.12", path, chance.choice((400, 422, 422, 500)), path, "POST", BROWSERS[6])


ATTACKS: tuple[type[Actor], ...] = (
    GuessingInSpells,
    StuffingFrom2000Addresses,
    SprayUnderTheSea,
    HuntForPanels,
    ScanUnderManyNames,
    NumberedFiles,
    NamesOfUsers,
    ScrapersTogether,
    FloodOfASearch,
    OneTimeCodes,
    SprayThatSucceeds,
    FuzzedParameters,
)
