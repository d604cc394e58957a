"""What clients do over time arrives as incidents: one for each attacker, of one process and of several that share."""

from __future__ import annotations

import http.client
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from support.application import ZERO_CODE, RunningApplication, running_application
from support.asgi import BROWSER
from support.backend import RunningBackend, running_backend
from support.redis import eventually, redis_server
from support.watched_app import FIRST_MISSING, PASSWORD

from opentelemetry_guard.backend.storage.incident_search import IncidentSearch
from opentelemetry_guard.backend.storage.incidents import Incident
from opentelemetry_guard.backend.storage.store import Store

pytestmark = pytest.mark.slow

HOUR = 3600
RULES = {
    "cooldown": HOUR,
    "failed_logins": {"window": HOUR, "attempts": 15},
    "scanning": {"window": HOUR},
    "enumeration": {"window": HOUR, "objects": 20, "found": 30, "refused": 20},
    "request_rate": {"window": HOUR, "requests": 80, "most": 80},
    "error_ratio": {"window": HOUR},
    "campaign": {"window": HOUR, "warm_up": 0, "score": 0, "times": 1, "busy": 1000},
}
"""So that a few hundred requests are enough, whatever time a busy machine takes for them."""
ROUNDS = 20
PATIENCE = 10.0
"""Seconds for which what a round has to bring is waited for before another one is sent."""
UPDATE = 60.0
ANY = ""
"""Stands for any address of those that attack together."""

Told = list[dict[str, Any]]
Round = Callable[["Attackers"], None]


class Attackers:
    """Send requests as anybody, to one process after the other."""

    def __init__(self, processes: Sequence[RunningApplication], backend: RunningBackend) -> None:
        places = [urlsplit(process.url) for process in processes]
        self._next = itertools.cycle([http.client.HTTPConnection(place.hostname or "", place.port) for place in places])
        self._backend = backend
        self._numbers = itertools.count()

    def send(self, address: str, path: str, *, body: object = None, method: str = "GET", key: str = "") -> None:
        headers = {"X-Forwarded-For": address, "User-Agent": BROWSER, "Content-Type": "application/json"}
        if key:
            headers["X-API-Key"] = key
        data = None if body is None else orjson.dumps(body)
        connection = next(self._next)
        connection.request(method if data is None else "POST", path, data, headers)
        connection.getresponse().read()

    def log_in(self, address: str, user: str, password: str = "guess") -> None:
        self.send(address, "/login", body={"user": user, "password": password})

    def number(self) -> int:
        """Return another number each time."""
        return next(self._numbers)

    def word(self) -> str:
        """Return another word without digits each time: paths that differ in a number are of one kind."""
        return str(self.number()).translate(str.maketrans("0123456789", "abcdefghij"))

    def until_told(self, expected: Iterable[tuple[str, str]], send: Round) -> None:
        """Send a round, and another one where not all of what it has to bring (pattern, address) is told soon."""
        missing = set(expected)

        def is_over(until: float) -> bool:
            for event in _analysed(self._backend):
                missing.difference_update({(_pattern(event), event["ip_address"]), (_pattern(event), ANY)})
            return not missing or time.monotonic() > until

        for _ in range(ROUNDS):
            send(self)
            eventually(partial(is_over, time.monotonic() + PATIENCE), every=0.1)
            if not missing:
                return
        raise AssertionError(f"{missing} are not told")


def _analysed(backend: RunningBackend) -> Told:
    return [event for event in backend.events() if "detector" in event["metadata"]]


def _pattern(event: dict[str, Any]) -> str:
    return str(event["metadata"].get("pattern") or event["rule_type"])


def _fail(attackers: Attackers) -> None:
    for _ in range(60):
        number = attackers.number()
        attackers.send(f"198.51.{number >> 8}.{number & 255}", "/")
    for _ in range(15):
        for path in ("/", "/items/1", "/signin"):  # what fails at one resource again is a client that tries again
            attackers.send(ALONE["error_ratio"], path, method="PUT")


ALONE = {
    "error_ratio": "203.0.113.10",
    "brute_force": "203.0.113.1",
    "credential_stuffing": "203.0.113.2",
    "login_attempts": "203.0.113.3",
    "scanning": "203.0.113.4",
    "missing_objects": "203.0.113.5",
    "harvesting": "203.0.113.6",
    "refused_submissions": "203.0.113.7",
    "guessed_credentials": "203.0.113.8",
    "request_rate": "203.0.113.9",
    "success_after_failures": "203.0.113.1",
}


def _attack_alone(attackers: Attackers) -> None:
    for number in range(15):
        attackers.log_in(ALONE["brute_force"], "ann")
        attackers.log_in(ALONE["credential_stuffing"], f"user {number}")
        attackers.send(ALONE["guessed_credentials"], "/account", key=f"key {attackers.number()}")
    for number in range(8):
        attackers.log_in(f"203.0.114.{number}", "carl")
    for _ in range(30):
        attackers.send(ALONE["scanning"], f"/{attackers.word()}/x")
    for number in range(25):
        attackers.send(ALONE["login_attempts"], "/signin", body={"user": "bob", "password": f"guess {number}"})
        attackers.send(ALONE["missing_objects"], f"/items/{FIRST_MISSING + attackers.number()}")
        attackers.send(ALONE["refused_submissions"], "/coupons", body={"coupon": number})
    for _ in range(90):
        attackers.send(ALONE["harvesting"], f"/items/{attackers.number()}")
        attackers.send(ALONE["request_rate"], "/")


def _come_in(attackers: Attackers) -> None:
    attackers.log_in(ALONE["success_after_failures"], "ann", PASSWORD)


def _attack_together(attackers: Attackers) -> None:
    for number in range(30):
        for _ in range(2):
            attackers.send(f"203.0.115.{number}", f"/deep/{attackers.word()}/z")
        for _ in range(7):
            attackers.send(f"203.0.116.{number}", f"/items/{FIRST_MISSING + attackers.number()}")
        attackers.log_in(f"203.0.118.{number}", f"user {number}")


TOGETHER = {f"{what}_from_many_addresses" for what in ("paths", "objects", "logins")}


def _incidents(backend: RunningBackend) -> dict[str, Incident]:
    """Return the incidents by their keys."""
    store = Store(backend.db)
    try:
        found = IncidentSearch(store.database).page(backend.project, "", "", None, 1000).found
    finally:
        store.close()
    by_key = {incident.correlation_key: incident for incident in found}
    assert len(by_key) == len(found)
    return by_key


@pytest.fixture(params=["one process", "two beside a file", "two with Redis"])
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[RunningBackend, int, str]]:
    """Yield a backend, how many processes there are to be, and where they queue."""
    with ExitStack() as stack:
        backend = stack.enter_context(running_backend())
        is_one, is_redis = request.param == "one process", request.param == "two with Redis"
        queue = stack.enter_context(redis_server()).url if is_redis else f"sqlite://{tmp_path / 'queue.db'}"
        yield backend, 1 if is_one else 2, queue


def test_each_attacker_is_one_incident(processes: tuple[RunningBackend, int, str]) -> None:
    backend, number, queue = processes
    settings = {
        **ZERO_CODE,
        **backend.environment,
        "OTEL_EXPORTER_GUARD_QUEUE_URL": queue,
        "OTEL_PYTHON_GUARD_TRUSTED_PROXIES": "127.0.0.1",
        "OTEL_PYTHON_GUARD_BEHAVIOR_RULES": orjson.dumps(RULES).decode(),
    }
    begun = time.monotonic()
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                running_application(
                    "support.watched_app:app", settings, "--no-proxy-headers", "--timeout-keep-alive", "3600"
                )
            )
            for _ in range(number)
        ]
        attackers = Attackers(running, backend)
        first, *alone, last = ALONE.items()
        attackers.until_told([first], _fail)
        attackers.until_told([*alone, ("distributed_brute_force", ANY)], _attack_alone)
        attackers.until_told([last], _come_in)
        attackers.until_told([(pattern, ANY) for pattern in TOGETHER], _attack_together)
        for process in running:
            process.stop()
    updates = (time.monotonic() - begun) / UPDATE
    incidents = _incidents(backend)
    keys: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for event in _analysed(backend):
        client = event["metadata"]["client"]
        who = event["ip_address"] if client == "address" else client
        keys[who, event["event_type"]].add(event["metadata"]["guard.behavior.correlation_key"])
    assert {who: len(found) for who, found in keys.items() if len(found) > 1} == {}, "one incident for each"
    for address in ALONE.values():
        (key,) = keys[address, "behavioral_violation"]
        assert incidents[key].addresses == [address]
    (came_in,) = keys[ALONE["success_after_failures"], "penetration_attempt"]
    (against_carl,) = keys["user", "behavioral_violation"]
    (campaign,) = keys["application", "behavioral_violation"]
    assert {came_in, against_carl, campaign} <= incidents.keys()
    assert set(incidents[campaign].campaigns) == TOGETHER
    assert [key for key, incident in incidents.items() if incident.campaigns] == [campaign]
    told = [(event["metadata"]["incident"], _pattern(event)) for event in _analysed(backend)]
    for one in set(told):
        assert told.count(one) <= 1 + updates, "once a minute at most"
    assert not any(event["ip_address"].startswith("198.51.") for event in backend.events())
