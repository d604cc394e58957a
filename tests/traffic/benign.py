"""Who looks like an attacker to a careless detector and is none: nothing that they do may be told."""

from __future__ import annotations

import random
from collections.abc import Iterator

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
    missing,
    page,
    public,
)

PHONE = "ExampleApp/7.2 (iPhone; iOS 18.5)"


class PageWithADeadToken(Actor):
    """A single-page application that is left open, and polls with the token that has expired."""

    seconds = HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(10, self.seconds, chance, 0.02):
            yield Sent(at, "203.0.113.1", "/api/notifications", 401, "/api/notifications", credentials="Bearer dead")


class RetryingPhone(Actor):
    """A mobile client that repeats the same request every second while the answer is no."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for start, status in ((10, 503), (200, 401), (400, 503)):
            for at in every(1, start + 75, chance, start=start):
                yield Sent(at, "203.0.113.2", "/api/sync", status, "/api/sync", "POST", PHONE, credentials="Bearer old")


class OfficeInTheMorning(Crowd):
    """Three hundred people behind one address who log in within half an hour; one in ten mistypes."""

    seconds = 30 * MINUTE
    people = 300

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        at, agent = chance.gauss(self.seconds / 2, 5 * MINUTE), chance.choice(BROWSERS[:12])
        while chance.random() < 0.1:
            yield failed_login(at, "203.0.113.3", agent)
            at += chance.uniform(4, 12)
        yield logged_in(at, "203.0.113.3", agent)
        yield from page(at + 1, "203.0.113.3", f"p{chance.randrange(9)}", agent)
        for number in range(8):
            yield item(at + 10 + number * chance.uniform(5, 20), "203.0.113.3", chance.randrange(500), agent=agent)


class CampusBehindOneAddress(Actor):
    """Three hundred people who read, and follow a dead link now and then."""

    seconds = 20 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.08, self.seconds, chance, 0.9):
            agent = chance.choice(BROWSERS)
            if chance.random() < 0.03:
                yield missing(at, "203.0.113.4", f"/old/page-{chance.randrange(40)}", agent)
            else:
                yield item(at, "203.0.113.4", chance.randrange(500), agent=agent)


class CarrierNat(Actor):
    """Four hundred phones behind one address of a carrier: tokens expire, passwords are mistyped."""

    seconds = 30 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.2, self.seconds, chance, 0.9):
            agent, kind = chance.choice(BROWSERS), chance.random()
            if kind < 0.04:
                token = f"Bearer {chance.randrange(400)}"
                yield Sent(at, "203.0.113.5", "/api/feed", 401, "/api/feed", agent=PHONE, credentials=token)
            elif kind < 0.05:
                yield failed_login(at, "203.0.113.5", agent)
            elif kind < 0.09:
                yield logged_in(at, "203.0.113.5", agent)
            else:
                yield Sent(at, "203.0.113.5", "/api/feed", 200, "/api/feed", agent=agent)


class BuildJob(Actor):
    """A job of continuous integration whose secret was rotated: three tries in each run, then a run of requests."""

    seconds = HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        address, agent, secret = "203.0.113.6", "python-requests/2.32", "Basic ci:old"
        for start in range(0, int(self.seconds), 600):
            for number in range(3):
                at = start + number * 2.0
                yield Sent(at, address, "/oauth/token", 401, "/oauth/token", "POST", agent, credentials=secret)
            for number in range(120):
                yield item(start + 10 + number * 0.1, address, number, agent=agent)


class FirstRoundOfBasic(Actor):
    """A client that sends its password only after it was asked: every other answer is 401."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        address, agent = "203.0.113.7", "git/2.45"
        for number, at in enumerate(every(2, self.seconds, chance)):
            path = f"/files/{number % 30}"
            yield Sent(at, address, path, 401, "/files/{name}", agent=agent)
            yield Sent(at + 0.05, address, path, 200, "/files/{name}", agent=agent, credentials="Basic me:right")


class CrawlerAfterAMigration(Actor):
    """A search engine that looks up what it knows; most of it has moved."""

    seconds = HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        address, agent = "203.0.113.8", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
        yield missing(0, address, "/robots.txt", agent)
        for number, at in enumerate(every(4, self.seconds, chance)):
            if chance.random() < 0.6:
                place = chance.choice(("blog", "news", "shop/items"))
                yield missing(at, address, f"/{place}/{chance.randrange(2015, 2024)}/the-story-of-{number}", agent)
            else:
                yield item(at, address, chance.randrange(500), agent=agent)


class OldPagesAfterADeployment(Crowd):
    """Forty people with a page of the last release: its files are gone, and so is what it polls."""

    seconds = 20 * MINUTE
    people = 40

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        address, agent = public(number, "203.10"), chance.choice(BROWSERS)
        start = chance.uniform(0, 3 * MINUTE)
        for chunk in range(14):
            yield missing(start + chunk * 0.05, address, f"/static/chunk-{chunk * 7919:x}.js", agent)
        for at in every(1, start + 8 * MINUTE, chance, start=start):
            yield missing(at, address, "/api/v1/live", agent)


class SyncJob(Actor):
    """A partner's job that reads nine hundred items in a minute, every ten minutes."""

    seconds = HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for start in range(0, int(self.seconds), 600):
            for number in range(900):
                at, path = start + number / 15, f"/items/{number}"
                token, agent = "Bearer partner", "sync/3.1"
                yield Sent(
                    at, "203.0.113.10", path, 200, "/items/{item_id}", agent=agent, credentials=token, user="partner"
                )


class HealthProbes(Actor):
    """Three load balancers that ask every second, and one that asks for what is not there any more."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for second in range(int(self.seconds)):
            for balancer in range(3):
                yield Sent(second + balancer * 0.1, f"10.0.0.{balancer}", "/healthz", route="/healthz", agent="ELB/2.0")
            yield missing(second + 0.5, "10.0.0.9", "/status", "kube-probe/1.30")


class Monitoring(Actor):
    """A service that logs in every minute and looks at pages from three places."""

    seconds = HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for minute in range(int(self.seconds / MINUTE)):
            for place in range(3):
                at, address = minute * MINUTE + place * 7, f"203.0.114.{place}"
                yield logged_in(at, address, "Uptime/4")
                yield from page(at + 1, address, "home", "Uptime/4", assets=2)


class FeedReaders(Actor):
    """Sixty readers, of which some ask for a feed that is gone."""

    seconds = HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(6, self.seconds, chance, 0.9):
            reader = chance.randrange(60)
            agent, address = f"Reader/{reader % 9}", public(reader, "203.11")
            if reader % 4 == 0:
                yield missing(at, address, chance.choice(("/rss.xml", "/feed", "/atom.xml")), agent)
            else:
                yield Sent(at, address, "/feed.xml", 304, "/feed.xml", agent=agent)


class LinkPreviewers(Actor):
    """Robots of messengers that look at a link which was shared, and at what every site may have."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        robots = (
            "Slackbot-LinkExpanding 1.0",
            "Twitterbot/1.0",
            "facebookexternalhit/1.1",
            "WhatsApp/2",
            "TelegramBot",
        )
        for number, at in enumerate(every(4, self.seconds, chance, 0.9)):
            agent, address = robots[number % 5], public(number % 40, "203.12")
            yield missing(at, address, "/robots.txt", agent)
            yield missing(at + 0.2, address, "/oembed.json", agent)
            yield from page(at + 0.5, address, "shared", agent, assets=1)


class CrowdFromANewsSite(Crowd):
    """Eight hundred visitors in six minutes, where thirty are usual."""

    seconds = 8 * MINUTE
    people = 800

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        address, agent = public(number, "203.13"), chance.choice(BROWSERS)
        start = chance.triangular(0, 6 * MINUTE, 60)
        yield from page(start, address, "story", agent, assets=6)
        yield missing(start + 0.4, address, "/favicon.ico", agent)
        for click in range(chance.randrange(3)):
            yield item(start + 20 + 30 * click, address, chance.randrange(500), agent=agent)


class ForgetfulPerson(Actor):
    """Somebody who needs seven tries, and comes in."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number in range(7):
            yield failed_login(number * 14, "203.0.113.16")
        yield logged_in(110, "203.0.113.16")
        yield from page(111, "203.0.113.16", "home", BROWSERS[0])


class SessionsThatEnd(Crowd):
    """All sessions end with a deployment: pages get a 401 from all that they load, and people log in again."""

    people = 120

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        address, agent = public(number, "203.14"), chance.choice(BROWSERS)
        at = chance.uniform(0, 3 * MINUTE)
        for call in range(12):
            path, token = f"/api/widgets/{call}", f"Bearer {number}"
            yield Sent(at + call * 0.02, address, path, 401, "/api/widgets/{widget}", agent=agent, credentials=token)
        at += chance.uniform(5, 60)
        while chance.random() < 0.12:
            yield failed_login(at, address, agent)
            at += chance.uniform(4, 12)
        yield logged_in(at, address, agent)


class DownloadInParts(Actor):
    """A client that fetches a large file in ranges."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.08, 300, chance):
            yield Sent(at, "203.0.113.18", "/files/big", 206, "/files/{name}", agent="aria2/1.37")


class SignUpForm(Actor):
    """Forms that ask at every letter whether a name is free; that there is none is the good answer."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for person in range(20):
            address, start = public(person, "203.15"), chance.uniform(0, self.seconds - 30)
            for letters in range(3, 14):
                path = "/api/names/" + "abcdefghijklmno"[:letters]
                yield Sent(start + letters * 0.4, address, path, 404, "/api/names/{name}")


class WebhookSender(Actor):
    """A service that delivers events; some are refused, and tried again for an hour."""

    seconds = HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(3, self.seconds, chance, 0.9):
            status = 422 if chance.random() < 0.4 else 200
            yield Sent(at, "203.0.113.20", "/hooks/payment", status, "/hooks/payment", "POST", "Hooks/1.0")


class SearchAsYouType(Actor):
    """Ten people whose every letter asks, and the first ones are refused as too short."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(1, self.seconds, chance, 0.9):
            address = public(chance.randrange(10), "203.16")
            for letters in range(1, 9):
                status, query = (422 if letters < 3 else 200), "q=" + "interest"[:letters]
                yield Sent(at + letters * 0.1, address, "/search", status, "/search", query=query)


class ArchivingCrawler(Actor):
    """A robot that reads every item, one after the other, every two seconds."""

    seconds = HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(2, self.seconds, chance)):
            status = 404 if chance.random() < 0.05 else 200
            yield item(
                at, "203.0.113.22", number, status, "archive.org_bot (+https://archive.org/details/archive.org_bot)"
            )


ACTORS: tuple[type[Actor], ...] = (
    PageWithADeadToken,
    RetryingPhone,
    OfficeInTheMorning,
    CampusBehindOneAddress,
    CarrierNat,
    BuildJob,
    FirstRoundOfBasic,
    CrawlerAfterAMigration,
    OldPagesAfterADeployment,
    SyncJob,
    HealthProbes,
    Monitoring,
    FeedReaders,
    LinkPreviewers,
    CrowdFromANewsSite,
    ForgetfulPerson,
    SessionsThatEnd,
    DownloadInParts,
    SignUpForm,
    WebhookSender,
    SearchAsYouType,
    ArchivingCrawler,
)
