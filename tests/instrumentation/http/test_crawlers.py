"""Who calls himself a search engine is one where name servers say so, and nowhere else."""

from __future__ import annotations

import builtins
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from support.name_server import NameServer, name_server
from support.recording import Recording, recording
from support.redis import eventually

from opentelemetry_guard.instrumentation import http as fastapi_apps
from opentelemetry_guard.instrumentation.http import patches
from opentelemetry_guard.instrumentation.http.crawlers import (
    MOST_ADDRESSES,
    MOST_WAITING,
    REFUTED_SECONDS,
    UNKNOWN_SECONDS,
    VERIFIED_SECONDS,
    Crawlers,
    DnsNames,
)
from opentelemetry_guard.settings.instrumentation import GuardOptions

GOOGLE = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
BING = "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Known:
    """Names and addresses that somebody has written down."""

    def __init__(self, names: dict[str, list[str]], addresses: dict[str, list[str]]) -> None:
        self.names, self.addresses = names, addresses
        self.asked: list[str] = []

    def names_of(self, address: str) -> Sequence[str]:
        self.asked.append(address)
        if self.names.get(address) == ["raises"]:
            raise OSError("nobody answers")
        return self.names.get(address, ())

    def addresses_of(self, name: str) -> Sequence[str]:
        return self.addresses.get(name, ())


NAMES = {
    "66.249.66.1": ["crawl-66-249-66-1.googlebot.com."],
    "2001:4860:4801::1": ["v6.googlebot.com."],
    "192.0.2.1": ["crawl-66-249-66-1.googlebot.com."],
    "192.0.2.2": ["googlebot.com.example.net."],
    "192.0.2.3": ["evilgooglebot.com."],
    "192.0.2.4": ["raises"],
    "40.77.167.1": ["msnbot-40-77-167-1.search.msn.com."],
}
ADDRESSES = {
    "crawl-66-249-66-1.googlebot.com.": ["66.249.66.1"],
    "v6.googlebot.com.": ["2001:4860:4801:0::1"],
    "googlebot.com.example.net.": ["192.0.2.2"],
    "evilgooglebot.com.": ["192.0.2.3"],
    "msnbot-40-77-167-1.search.msn.com.": ["40.77.167.1"],
}


def settled(crawlers: Crawlers, address: str, user_agent: str) -> bool:
    crawlers.vouches(address, user_agent)
    eventually(lambda: address in crawlers._known)
    return crawlers.vouches(address, user_agent)


@pytest.mark.parametrize(
    ("address", "user_agent", "is_one"),
    [
        ("66.249.66.1", GOOGLE, True),
        ("2001:4860:4801::1", GOOGLE, True),
        ("40.77.167.1", BING, True),
        ("66.249.66.1", BING, False),
        ("192.0.2.1", GOOGLE, False),
        ("192.0.2.2", GOOGLE, False),
        ("192.0.2.3", GOOGLE, False),
        ("192.0.2.4", GOOGLE, False),
        ("192.0.2.5", GOOGLE, False),
    ],
)
def test_a_crawler_has_a_name_of_its_engine_and_the_name_its_address(
    address: str, user_agent: str, is_one: bool
) -> None:
    crawlers = Crawlers(lambda: Known(NAMES, ADDRESSES))
    assert not crawlers.vouches(address, user_agent), "nobody waits for an answer"
    assert settled(crawlers, address, user_agent) is is_one


def test_who_names_no_engine_or_has_no_public_address_is_never_asked_for() -> None:
    names = Known(NAMES, ADDRESSES)
    crawlers = Crawlers(lambda: names)
    for address, agent in (("66.249.66.1", "curl/8"), ("10.0.0.1", GOOGLE), ("testclient", GOOGLE), ("", GOOGLE)):
        assert not crawlers.vouches(address, agent)
    assert (names.asked, crawlers._thread) == ([], None)


@pytest.mark.parametrize(
    ("address", "seconds"),
    [("66.249.66.1", VERIFIED_SECONDS), ("192.0.2.1", REFUTED_SECONDS), ("192.0.2.4", UNKNOWN_SECONDS)],
)
def test_an_answer_counts_for_its_time_and_failures_count_too(address: str, seconds: float) -> None:
    names, clock = Known(NAMES, ADDRESSES), Time()
    crawlers = Crawlers(lambda: names, clock)
    settled(crawlers, address, GOOGLE)
    clock.now = seconds - 1
    crawlers.vouches(address, GOOGLE)
    assert names.asked == [address]
    clock.now = seconds
    assert not crawlers.vouches(address, GOOGLE)
    eventually(lambda: names.asked == [address, address])


def test_no_number_of_pretenders_takes_more_than_its_room() -> None:
    held, started = threading.Event(), threading.Event()

    class Slow(Known):
        def names_of(self, address: str) -> Sequence[str]:
            started.set()
            held.wait(60)
            return super().names_of(address)

    names = Slow({}, {})
    crawlers = Crawlers(lambda: names)
    crawlers.vouches("192.1.0.0", GOOGLE)
    assert started.wait(20)
    for number in range(2 * MOST_WAITING):
        crawlers.vouches(f"192.2.{number >> 8}.{number & 255}", GOOGLE)
    assert len(crawlers._waiting) == MOST_WAITING
    held.set()
    eventually(lambda: len(crawlers._known) == MOST_WAITING + 1)
    for number in range(MOST_ADDRESSES):
        address = f"192.3.{number >> 8}.{number & 255}"
        while not (address in crawlers._asked or address in crawlers._known):
            crawlers.vouches(address, GOOGLE)
    eventually(lambda: not crawlers._asked)
    assert len(crawlers._known) == MOST_ADDRESSES


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_has_a_thread_of_its_own() -> None:
    crawlers = Crawlers(lambda: Known(NAMES, ADDRESSES))
    settled(crawlers, "66.249.66.1", GOOGLE)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if settled(crawlers, "40.77.167.1", BING) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_the_library_one_warning_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "dns":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    crawlers = Crawlers()
    for number in range(3):
        assert not crawlers.vouches(f"192.0.2.{number}", GOOGLE)
    eventually(lambda: "pip install 'opentelemetry-guard[crawlers]'" in caplog.text)
    assert caplog.text.count("VERIFY_CRAWLERS") == 1


class TestWithNameServers:
    """The real resolver, and a name server on loopback."""

    @pytest.fixture
    def server(self) -> Iterator[NameServer]:
        known = {address: names for address, names in NAMES.items() if names != ["raises"]}
        with name_server(known, ADDRESSES) as running:
            yield running

    @staticmethod
    def names(server: NameServer, seconds: float = 20.0) -> Callable[[], DnsNames]:
        return lambda: DnsNames(["127.0.0.1"], server.port, seconds)

    @pytest.mark.parametrize(
        ("address", "is_one"),
        [("66.249.66.1", True), ("2001:4860:4801::1", True), ("192.0.2.1", False), ("192.0.2.9", False)],
    )
    def test_they_are_asked_both_ways(self, server: NameServer, address: str, is_one: bool) -> None:
        assert settled(Crawlers(self.names(server)), address, GOOGLE) is is_one

    def test_a_silent_one_is_given_up(self, server: NameServer) -> None:
        clock = Time()
        server.silent.add("crawl-66-249-66-1.googlebot.com.")
        crawlers = Crawlers(self.names(server, 0.2), clock)
        assert not settled(crawlers, "66.249.66.1", GOOGLE)
        server.silent.clear()
        crawlers._known.clear()
        assert not crawlers.vouches("66.249.66.1", GOOGLE)

    @pytest.mark.parametrize(("allowed", "told"), [(True, 0), (False, 1)])
    def test_an_application_accuses_no_engine_where_they_may_be_asked(
        self, server: NameServer, monkeypatch: pytest.MonkeyPatch, allowed: bool, told: int
    ) -> None:
        crawlers = Crawlers(self.names(server))
        monkeypatch.setattr(patches, "Crawlers", lambda: crawlers)
        with recording() as recorded:
            options = GuardOptions(verify_crawlers=allowed, behavior_url="memory:", rules_interval=0)
            fastapi_apps.install(options, recorded.pipeline.emitter)
            try:
                asking = TestClient(FastAPI(), client=("66.249.66.1", 5), headers={"User-Agent": GOOGLE})
                asking.get("/robots.txt")
                if allowed:
                    eventually(lambda: "66.249.66.1" in crawlers._known)
                for name in "abcdefghijklmnopqrstuvwxyz":
                    asking.get(f"/{name}")
            finally:
                fastapi_apps.uninstall()
        assert len({event["rule_type"] for event in _events(recorded)}) == 2 * told


def _events(recorded: Recording) -> list[dict[str, Any]]:
    return [dict(event) for event in recorded.events()]
