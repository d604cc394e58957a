"""Attacks of other kinds than the first two sets have, written before it was known what is found of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import quote

from .asking import (
    BROWSERS,
    HOUR,
    MINUTE,
    WORDS,
    Actor,
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


class StuffingOverADay(Actor):
    """Six hundred addresses, one try every half minute from the next of them: each comes again after five hours."""

    seconds = 10 * HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(30, self.seconds, chance)):
            yield failed_login(at, public(number % 600, "192.20"), chance.choice(BROWSERS))


class GuessingOverADay(Actor):
    """One address that tries one user's password every five minutes; the application reports whose login failed."""

    seconds = 10 * HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(300, self.seconds, chance):
            yield failed_login(at, "192.0.4.2", BROWSERS[2])._replace(login=("director", False))


class IdsOverADay(Actor):
    """One number of an order every two minutes; nine in ten are nobody's."""

    seconds = 10 * HOUR

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(120, self.seconds, chance)):
            status = 404 if chance.random() < 0.9 else 200
            yield Sent(at, "192.0.4.3", f"/orders/{7_000_000 + number}", status, "/orders/{order}", agent=BROWSERS[6])


class KeysInAHeader(Actor):
    """Another API key every two seconds."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(2, self.seconds, chance):
            key = f"{chance.getrandbits(128):032x}"
            yield Sent(at, "192.0.4.4", "/v1/account", 401, "/v1/account", agent="python-httpx/0.28", api_key=key)


class KeysThatAreForbidden(Actor):
    """Another API key every four seconds, where a wrong one is answered with 403, in turn at three routes."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(4, self.seconds, chance)):
            path, key = f"/v1/{WORDS[number % 3]}", f"{chance.getrandbits(128):032x}"
            yield Sent(at, "192.0.4.5", path, 403, path, agent="python-httpx/0.28", api_key=key)


class KeysFromManyAddresses(Actor):
    """Forty addresses that share the guessing of keys: another one every second."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(1, self.seconds, chance):
            key, address = f"{chance.getrandbits(128):032x}", public(chance.randrange(40), "192.21")
            yield Sent(at, address, "/v1/account", 401, "/v1/account", agent=chance.choice(BROWSERS), api_key=key)


class ForgedTokens(Actor):
    """Twenty-four tokens with another signature or none, one every five seconds, at what an account may see."""

    seconds = 4 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(5, 2 * MINUTE, chance)):
            path, token = f"/api/{WORDS[number % 8]}", f"Bearer eyJhbGciOiJub25lIn0.e30.{number}"
            yield Sent(at, "192.0.4.7", path, 401, path, agent="curl/8.9", credentials=token)


class GraphqlIntrospection(Actor):
    """Asks a GraphQL interface for all that it has, in the query and in bodies."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        asked = quote("query{__schema{types{name fields{name args{name type{name}}}}}}")
        for number, at in enumerate(every(6, 2 * MINUTE, chance)):
            sent = Sent(at, "192.0.4.8", "/graphql", 200, "/graphql", agent="InQL/6")
            yield sent._replace(query=f"query={asked}") if number % 2 else sent._replace(method="POST")


class GraphqlBatches(Actor):
    """A hundred logins in the body of each request, one request every two seconds, each answered with 200."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(2, self.seconds, chance):
            yield Sent(at, "192.0.4.9", "/graphql", 200, "/graphql", "POST", BROWSERS[9])


class ResetsOfNobody(Actor):
    """Asks for a new password of one address after the other; who is unknown is answered with 404."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(3, self.seconds, chance):
            status, path = (404 if chance.random() < 0.85 else 200), "/password/forgot"
            yield Sent(at, "192.0.4.10", path, status, path, "POST", BROWSERS[1])


class Coupons(Actor):
    """Guesses codes of discounts, and looks at its cart meanwhile."""

    seconds = 20 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(2.5, self.seconds, chance):
            yield Sent(at, "192.0.4.11", "/cart/coupon", 422, "/cart/coupon", "POST", BROWSERS[7])
            if chance.random() < 0.3:
                yield Sent(at + 0.5, "192.0.4.11", "/cart", 200, "/cart", agent=BROWSERS[7])


class GiftCards(Actor):
    """Thirty addresses that look up numbers of gift cards, two a second among them; one in a hundred exists."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(0.5, self.seconds, chance):
            address, number = public(chance.randrange(30), "192.22"), chance.randrange(10**12)
            status = 200 if chance.random() < 0.01 else 404
            yield Sent(
                at, address, f"/giftcards/{number}", status, "/giftcards/{number}", agent=chance.choice(BROWSERS)
            )


class ScraperOfManyNames(Actor):
    """Reads all items, two a second, each as another browser."""

    seconds = 15 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(0.5, self.seconds, chance)):
            yield item(
                at, "192.0.4.13", number, agent=f"Mozilla/5.0 (X11) Chrome/{chance.randrange(90, 140)}.0.{number}"
            )


class PollutedParameters(Actor):
    """The same parameters several times over, and such as the application may have for itself."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(1.5, 5 * MINUTE, chance):
            name = chance.choice(("id", "role", "debug", "admin", "user_id"))
            query = f"id={chance.randrange(99)}&{name}={chance.randrange(9)}&{name}=true&{name}[]=admin&{name}[$ne]=1"
            status = chance.choice((200, 200, 400, 422, 500))
            yield Sent(at, "192.0.4.14", "/api/users", status, "/api/users", agent=BROWSERS[4], query=query)


class CacheBusting(Actor):
    """Thirty addresses that ask for the front page with a parameter that no cache knows, one a second each."""

    seconds = 5 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(1 / 30, self.seconds, chance)):
            address = public(number % 30, "192.23")
            yield Sent(at, address, "/", route="/", agent=BROWSERS[number % 9], query=f"{chance.getrandbits(40):x}")


class SocketFlood(Actor):
    """Opens thirty sockets a second."""

    seconds = 3 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(1 / 30, self.seconds, chance):
            yield Sent(at, "192.0.4.16", "/ws", 101, "/ws", agent=BROWSERS[2])


class SocketsRefused(Actor):
    """Opens two sockets a second with tokens that are refused."""

    seconds = 5 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(0.5, self.seconds, chance)):
            yield Sent(at, "192.0.4.17", "/ws", 403, "/ws", agent=BROWSERS[2], query=f"token={number}")


class OtherMethods(Actor):
    """Tries methods on routes that don't take them."""

    seconds = 4 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(1, self.seconds, chance)):
            path, method = f"/api/{WORDS[number % 25]}", chance.choice(("PUT", "DELETE", "PATCH", "OPTIONS"))
            yield Sent(at, "192.0.4.18", path, 405, path, method, "okhttp/4.12")


class ScanOverA48(Actor):
    """Another /64 of a /48 for every path, one in three seconds."""

    seconds = 15 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(3, self.seconds, chance)):
            yield missing(at, f"2001:db8:fe00:{number:x}::1", guess(chance), chance.choice(BROWSERS))


class AccountsOfOthers(Actor):
    """Logs in, and asks for others' accounts one by one, each of which is closed to it."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        yield logged_in(0, "192.0.4.20", BROWSERS[5])
        for number, at in enumerate(every(2, self.seconds, chance, start=5)):
            path = f"/accounts/{4_000 + number}"
            yield Sent(at, "192.0.4.20", path, 403, "/accounts/{account}", agent=BROWSERS[5], user="mallory")


class FalseSignUps(Actor):
    """Makes an account every three seconds."""

    seconds = 20 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(3, self.seconds, chance):
            yield Sent(at, "192.0.4.21", "/register", 201, "/register", "POST", BROWSERS[8])


class CodesBySms(Actor):
    """Has codes sent to expensive numbers, one every four seconds, from one address after the other of ten."""

    seconds = 20 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for number, at in enumerate(every(4, self.seconds, chance)):
            yield Sent(at, public(number % 10, "192.24"), "/codes", 202, "/codes", "POST", BROWSERS[number % 5])


class SuccessOfACampaign(Actor):
    """Forty addresses with a guess every minute among them, and five of them come in by the way."""

    seconds = 40 * MINUTE
    right: ClassVar[float] = 0.02

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        for at in every(6, self.seconds, chance):
            address, agent = public(chance.randrange(40), "192.25"), chance.choice(BROWSERS)
            yield logged_in(at, address, agent) if chance.random() < self.right else failed_login(at, address, agent)


class InternalAddresses(Actor):
    """Has the application fetch what only it can reach."""

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        targets = ("http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:6379/", "gopher://127.0.0.1:25/_x")
        for target, at in zip(targets, every(20, self.seconds, chance), strict=False):
            yield Sent(at, "192.0.4.24", "/preview", 200, "/preview", agent=BROWSERS[0], query=f"url={quote(target)}")


class ScanBetweenPages(Actor):
    """Reads the site as a person does, and asks for one path of a list with each page."""

    seconds = 30 * MINUTE

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        visits = []
        for at in every(30, self.seconds, chance):
            visits.append(page(at, "192.0.4.25", chance.choice(WORDS), BROWSERS[3]))
            visits.append(iter((missing(at + 9, "192.0.4.25", guess(chance), BROWSERS[3]),)))
        yield from in_order(*visits)


ATTACKS: tuple[type[Actor], ...] = (
    StuffingOverADay,
    GuessingOverADay,
    IdsOverADay,
    KeysInAHeader,
    KeysThatAreForbidden,
    KeysFromManyAddresses,
    ForgedTokens,
    GraphqlIntrospection,
    GraphqlBatches,
    ResetsOfNobody,
    Coupons,
    GiftCards,
    ScraperOfManyNames,
    PollutedParameters,
    CacheBusting,
    SocketFlood,
    SocketsRefused,
    OtherMethods,
    ScanOverA48,
    AccountsOfOthers,
    FalseSignUps,
    CodesBySms,
    SuccessOfACampaign,
    InternalAddresses,
    ScanBetweenPages,
)
