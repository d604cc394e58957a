"""Several backends on one database, as behind a load balancer: whatever one of them knows holds at all."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend
from support.redis import eventually

from opentelemetry_guard.backend.dashboard.visitors import TRIES_PER_MINUTE
from opentelemetry_guard.backend.storage.keys import VIEWER, StoredKeys
from opentelemetry_guard.backend.storage.rates import portion_of
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.models import DynamicRules

pytestmark = pytest.mark.slow

PASSWORD = "correct horse"
PUBLIC = "guard.example"
"""The name of both backends, as a load balancer has it."""


@dataclass
class Browser:
    """A visitor whose requests go to one backend after the other."""

    backends: Iterator[RunningBackend]
    http: requests.Session

    def get(self, path: str) -> requests.Response:
        return self._ask("GET", path)

    def send(self, form_of: str, path: str, **fields: str) -> requests.Response:
        """Fill in a form of the page `form_of`, and send it to `path`."""
        shown = self.get(form_of)
        [token, *_] = re.findall(r'name="form_token" value="([0-9a-f]+)"', shown.text)
        return self._ask("POST", path, data={"form_token": token, **fields})

    def sign_in(self, password: str = PASSWORD) -> int:
        return self.send("/login", "/login", password=password, next="/").status_code

    def _ask(self, method: str, path: str, **more: Any) -> requests.Response:
        url = next(self.backends).url + path
        return self.http.request(method, url, headers={"Host": PUBLIC}, timeout=60, allow_redirects=False, **more)


@pytest.fixture
def backends(database: Path | URL) -> Iterator[list[RunningBackend]]:
    """Two of them on one database, with one password."""
    with ExitStack() as stack:
        yield [stack.enter_context(running_backend(db=database, password=PASSWORD)) for _ in range(2)]


@pytest.fixture
def browser(backends: list[RunningBackend]) -> Iterator[Browser]:
    """A visitor of both."""
    with requests.Session() as http:
        http.trust_env = False
        yield Browser(cycle(backends), http)


def test_a_visitor_signs_in_once_and_sends_forms_wherever_a_request_goes(browser: Browser) -> None:
    assert browser.get("/events").status_code == 303
    assert browser.sign_in() == 303
    assert [browser.get("/events").status_code for _ in range(4)] == [200] * 4
    for number in (1, 2):
        answer = browser.send("/rules", "/rules/ban", address=f"192.0.2.{number}", version=str(number - 1))
        assert answer.status_code == 303
    assert "192.0.2.2" in browser.get("/rules").text


def test_a_login_outlives_a_restart_and_not_the_password(backends: list[RunningBackend], browser: Browser) -> None:
    assert browser.sign_in() == 303
    for backend in backends:
        backend.restart()
    assert [browser.get("/events").status_code for _ in range(2)] == [200] * 2
    for backend in backends:
        backend._settings["PASSWORD"] = "another horse"
        backend.restart()
    assert [browser.get("/events").status_code for _ in range(2)] == [303] * 2


def test_who_signs_out_at_one_is_signed_out_at_all_whoever_has_the_cookie(browser: Browser) -> None:
    assert browser.sign_in() == 303
    stolen = dict(browser.http.cookies)
    assert browser.send("/events", "/logout").status_code == 303
    browser.http.cookies.update(stolen)
    assert [browser.get("/events").status_code for _ in range(2)] == [303] * 2
    # Also where nothing of it is in memory.
    for _ in range(2):
        next(browser.backends).restart()
    assert [browser.get("/events").status_code for _ in range(2)] == [303] * 2


def test_wrong_passwords_are_counted_together(backends: list[RunningBackend], browser: Browser) -> None:
    began = time.monotonic()
    statuses = Counter(browser.sign_in("a wrong password") for _ in range(2 * TRIES_PER_MINUTE + 2))
    minutes = (time.monotonic() - began) / 60
    assert set(statuses) == {401, 429}
    # The time adds some; each for itself would have let twice as many through.
    assert statuses[401] <= TRIES_PER_MINUTE * (1 + minutes) + 1
    assert browser.sign_in() == 303


@pytest.mark.parametrize("processes", [2, 4])
def test_a_limit_is_of_all_processes_together(database: Path | URL, processes: int) -> None:
    limits = {"rate_limit": "120", "address_rate_limit": "0", "project_rate_limit": "0"}
    with ExitStack() as stack:
        # Two addresses of a load balancer, and the same number of workers behind each.
        backends = [
            stack.enter_context(running_backend(db=database, workers=str(processes // 2), **limits)) for _ in range(2)
        ]
        began = time.monotonic()
        asked = zip(range(300), cycle(backends), strict=False)
        statuses = Counter(status_of(backend) for _, backend in asked)
        minutes = (time.monotonic() - began) / 60
    assert set(statuses) == {200, 429}
    held = processes * (portion_of(120) - 1)
    assert 120 - held <= statuses[200] <= 120 * (1 + minutes)


def status_of(backend: RunningBackend, **headers: str) -> int:
    """Ask with the backend's key, or as the headers say, over a new connection, which any worker may take."""
    url = f"{backend.url}/api/v1/status"
    answer = requests.get(
        url, headers={**backend.headers, **headers}, timeout=60, proxies={"http": "", "no_proxy": "*"}
    )
    return answer.status_code


def test_a_key_opens_every_process_from_its_first_moment_to_its_last(database: Path | URL) -> None:
    with ExitStack() as stack:
        backends = [stack.enter_context(running_backend(db=database, workers="2")) for _ in range(2)]
        with closing(Store(database)) as store:
            keys = StoredKeys(store.database)
            record, key = keys.create("shop")
            headers = {"X-API-Key": key, "X-Project-ID": "shop"}
            assert {status_of(backend, **headers) for backend in backends * 4} == {200}
            assert keys.revoke(record.id)
            assert {status_of(backend, **headers) for backend in backends * 4} == {401}


def test_a_viewers_sessions_end_everywhere_with_the_key(database: Path | URL, browser: Browser) -> None:
    with closing(Store(database)) as store:
        keys = StoredKeys(store.database)
        record, key = keys.create("shop", role=VIEWER)
        assert browser.sign_in(key) == 303
        assert [browser.get("/events").status_code for _ in range(2)] == [200] * 2
        keys.revoke(record.id)
        assert [browser.get("/events").status_code for _ in range(2)] == [303] * 2


def test_a_change_of_rules_at_one_is_told_at_the_other(database: Path | URL, tmp_path: Path) -> None:
    with ExitStack() as stack:
        backends = [stack.enter_context(running_backend(db=database)) for _ in range(2)]
        streams = [stack.enter_context(told_of_rules(backend)) for backend in backends]
        assert [next(stream) for stream in streams] == [0, 0]
        backends[0].set_rules(DynamicRules(ip_blacklist=["192.0.2.1"]))
        assert [next(stream) for stream in streams] == [1, 1]


def test_who_asks_one_for_rules_is_known_at_the_other(database: Path | URL) -> None:
    with running_backend(db=database) as one, running_backend(db=database) as other:
        headers = {**one.headers, "X-Agent-Install-Id": "an installation"}
        assert one.http.get(f"{one.url}/api/v1/rules", headers=headers, timeout=60).status_code == 200

        def asking() -> bool:
            query = {"project": one.project}
            answer = other.http.get(f"{other.url}/local/enforcement", params=query, timeout=60)
            return bool(answer.json()["asking"] == 1)

        eventually(asking, 60)


@contextmanager
def told_of_rules(backend: RunningBackend) -> Iterator[Iterator[int]]:
    """A stream of rules, as the versions that it tells of."""
    url = f"{backend.url}/api/v1/rules/stream"
    with backend.http.get(url, headers=backend.headers, stream=True, timeout=120) as answer:
        lines = answer.iter_lines(chunk_size=1)
        yield (json.loads(line.removeprefix(b"data: "))["version"] for line in lines if line.startswith(b"data: "))
