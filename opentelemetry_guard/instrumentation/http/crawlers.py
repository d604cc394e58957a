"""Which clients are the search engines that they say they are: by reverse look-up, where a setting allows the network.

Anybody can call himself Googlebot. The engines say how to tell: the name that the address has (PTR) must lie in the
engine's domain, and that name must have the address (https://developers.google.com/search/docs/crawling-indexing/verifying-googlebot).

No request waits for it: a thread asks for the addresses whose user agent names an engine, and requests look up what it
has found. Until it has, a client is what everybody else is.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from opentelemetry.instrumentation.utils import suppress_instrumentation

from ...decision.addresses import is_private, number_of
from ...settings.once import log_once

_logger = logging.getLogger(__name__)

DOMAINS: dict[str, tuple[str, ...]] = {
    "googlebot": ("googlebot.com", "google.com", "googleusercontent.com"),
    "google-inspectiontool": ("googlebot.com", "google.com"),
    "googleother": ("googlebot.com", "google.com"),
    "bingbot": ("search.msn.com",),
    "msnbot": ("search.msn.com",),
    "applebot": ("applebot.apple.com",),
    "yandex": ("yandex.ru", "yandex.net", "yandex.com"),
    "baiduspider": ("crawl.baidu.com", "crawl.baidu.jp"),
    "yahoo! slurp": ("crawl.yahoo.net",),
    "seznambot": ("seznam.cz",),
    "petalbot": ("petalsearch.com",),
    "yeti": ("naver.com",),
    "archive.org_bot": ("archive.org",),
}
"""What is in the user agents of crawlers, in lower case, and the domains in which the names of their addresses lie; as
their operators publish it. Those that publish lists of addresses instead are not here."""

VERIFIED_SECONDS = 86_400.0
REFUTED_SECONDS = 3_600.0
UNKNOWN_SECONDS = 300.0
"""How long it counts what a look-up has found: that it is the crawler, that it is not, that nobody has answered."""
MOST_ADDRESSES = 4096
"""Addresses of which is known what they are; beyond it the one that was asked for first is forgotten."""
MOST_WAITING = 256
"""Addresses that wait to be looked up; further ones are asked for with one of their later requests."""
LOOK_UP_SECONDS = 3.0
"""For one question to the name servers; an address needs two or three."""
_IDLE_SECONDS = 30.0
_LONGEST_AGENT = 512
_MOST_NAMES = 4
_NAMED = re.compile("|".join(map(re.escape, DOMAINS)))


class Names(Protocol):
    """Who knows names and addresses; every call may wait for seconds, and raises where nobody answers."""

    def names_of(self, address: str) -> Sequence[str]:
        """Return the names that an address has, none where it has none."""

    def addresses_of(self, name: str) -> Sequence[str]:
        """Return the addresses that a name has, none where there is no such name."""


class DnsNames:
    """The name servers of this machine, or those that are given."""

    def __init__(self, servers: Iterable[str] | None = None, port: int = 53, seconds: float = LOOK_UP_SECONDS) -> None:
        """Prepare for questions; nothing is asked yet.

        Args:
            servers: their addresses; None for those that the system names.
            port: of theirs.
            seconds: for each question.

        Raises:
            ImportError: dnspython is not installed.
        """
        import dns.resolver

        self._dns = dns.resolver
        self._resolver = dns.resolver.Resolver(configure=servers is None)
        if servers is not None:
            self._resolver.nameservers = list(servers)
        self._resolver.port = port
        self._resolver.lifetime = seconds

    def names_of(self, address: str) -> Sequence[str]:
        """Return the names that an address has, none where it has none."""
        try:
            return [record.target.to_text() for record in self._resolver.resolve_address(address)]
        except (self._dns.NXDOMAIN, self._dns.NoAnswer):
            return ()

    def addresses_of(self, name: str) -> Sequence[str]:
        """Return the addresses that a name has, none where there is no such name."""
        found: list[str] = []
        for kind in ("A", "AAAA"):
            try:
                found += [record.address for record in self._resolver.resolve(name, kind, search=False)]
            except (self._dns.NXDOMAIN, self._dns.NoAnswer):
                continue
        return found


class Crawlers:
    """Knows which addresses are those of crawlers. `vouches` is for requests, everything else for the thread.

    The lock guards the three collections, and nothing waits under it.
    """

    def __init__(self, names: Callable[[], Names] = DnsNames, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to know nothing; the first client that calls itself a crawler starts the thread.

        Args:
            names: makes who is asked, on the thread.
            clock: seconds that never go back.
        """
        self._make_names = names
        self._clock = clock
        self._named = functools.lru_cache(maxsize=1024)(_named)
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[str, float]] = OrderedDict()  # the crawler, and until when it counts
        self._waiting: deque[tuple[str, str]] = deque()
        self._asked: set[str] = set()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def is_named(self, user_agent: str) -> bool:
        """Whether a client calls itself a crawler."""
        return self._named(user_agent[:_LONGEST_AGENT]) is not None

    def vouches(self, address: str, user_agent: str) -> bool:
        """Whether a client is known to be the crawler that it calls itself; who isn't known yet is looked up."""
        if (crawler := self._named(user_agent[:_LONGEST_AGENT])) is None:
            return False
        known = self._known.get(address)
        if known is not None and self._clock() < known[1]:
            return known[0] == crawler
        self._ask(address, crawler)
        return False

    def _ask(self, address: str, crawler: str) -> None:
        if is_private(address) or number_of(address) is None:
            return
        with self._lock:
            if address in self._asked or len(self._waiting) >= MOST_WAITING:
                return
            self._asked.add(address)
            self._waiting.append((address, crawler))
            self._wake.set()
            if self._thread is not None:
                return
            thread = self._thread = threading.Thread(target=self._run, name="OtelGuardCrawlers", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends
            with self._lock:
                self._thread = None

    def _run(self) -> None:
        with suppress_instrumentation():
            try:
                names = self._make_names()
            except ImportError:
                log_once(
                    _logger,
                    logging.WARNING,
                    "OTEL_PYTHON_GUARD_VERIFY_CRAWLERS has no effect without dnspython: "
                    "pip install 'opentelemetry-guard[crawlers]'",
                )
                return  # and no other thread is started
            while self._look_up_next(names):
                pass

    def _look_up_next(self, names: Names) -> bool:
        """Look up one address, after waiting for one; return False when none has come for long, and the thread ends."""
        self._wake.wait(_IDLE_SECONDS)
        with self._lock:
            if not self._waiting:
                if self._wake.is_set():
                    self._wake.clear()
                    return True
                self._thread = None
                return False
            address, crawler = self._waiting.popleft()
        found, seconds = _looked_up(names, address, crawler)
        with self._lock:
            self._asked.discard(address)
            self._known.pop(address, None)
            self._known[address] = (found, self._clock() + seconds)
            if len(self._known) > MOST_ADDRESSES:
                self._known.popitem(last=False)
        return True


def _named(user_agent: str) -> str | None:
    """Return which crawler a user agent names, None for none."""
    found = _NAMED.search(user_agent.lower())
    return None if found is None else found.group()


def _looked_up(names: Names, address: str, crawler: str) -> tuple[str, float]:
    """Return the crawler that an address is of, "" for none, and for how many seconds that counts."""
    try:
        for name in list(names.names_of(address))[:_MOST_NAMES]:
            if _lies_in(name, DOMAINS[crawler]) and any(
                number_of(one) == number_of(address) for one in names.addresses_of(name)
            ):
                return crawler, VERIFIED_SECONDS
    except Exception:  # whatever a resolver raises: a client that nobody can tell about is what everybody else is
        _logger.debug("nobody says whose address a crawler's is", exc_info=True)
        return "", UNKNOWN_SECONDS
    return "", REFUTED_SECONDS


def _lies_in(name: str, domains: Iterable[str]) -> bool:
    lowered = name.lower().rstrip(".")
    return any(lowered.endswith(f".{domain}") for domain in domains)


_all: weakref.WeakSet[Crawlers] = weakref.WeakSet()


def _begin_in_child() -> None:
    # The thread is the parent's, and it may have held the lock.
    for crawlers in list(_all):
        crawlers._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
