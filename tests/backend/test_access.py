"""Who sees the dashboard, who changes the rules, and what an answer lets a browser do."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import URL
from starlette.requests import HTTPConnection
from support.backend import RunningBackend, running_backend

from opentelemetry_guard.backend.dashboard import sessions as sessions_module
from opentelemetry_guard.backend.dashboard import visitors as visitors_module
from opentelemetry_guard.backend.dashboard.pages import own_path
from opentelemetry_guard.backend.dashboard.sessions import SESSION_SECONDS, Password, Sessions
from opentelemetry_guard.backend.dashboard.visitors import MOST_LATE, TRIES_PER_MINUTE, Visitors
from opentelemetry_guard.backend.refusal import Refusal
from opentelemetry_guard.backend.settings import TraceLink
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.decision.addresses import subscriber

PASSWORD = "correct horse"
PAGES = [
    "/",
    "/events",
    "/events/1",
    "/events/rows?after=0",
    "/events/export?format=csv",
    "/events/export?format=json",
    "/incidents",
    "/incidents/1",
    "/agents",
    "/rules",
]
DATA = ["/local/events", "/local/metrics", "/local/agents", "/local/incidents", "/local/summary"]


@pytest.fixture(scope="module")
def opened(module_database: Path | URL) -> Iterator[RunningBackend]:
    """A backend without a password."""
    with running_backend(db=module_database) as running:
        yield running


@pytest.fixture(scope="module")
def closed(module_database: Path | URL) -> Iterator[RunningBackend]:
    """A backend with a password."""
    with running_backend(db=module_database, password=PASSWORD) as running:
        yield running


@contextmanager
def visitor() -> Iterator[requests.Session]:
    with requests.Session() as http:
        http.trust_env = False
        yield http


class From(requests.adapters.HTTPAdapter):
    """Connects from one of this machine's addresses."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, source_address=(self._address, 0))


def token(answer: requests.Response) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]+)"', answer.text)
    assert found is not None
    return found[1]


def sign_in(http: requests.Session, backend: RunningBackend, password: str, following: str = "/") -> requests.Response:
    asked = http.get(f"{backend.url}/login", timeout=60)
    fields = {"form_token": token(asked), "password": password, "next": following}
    return http.post(f"{backend.url}/login", data=fields, timeout=60, allow_redirects=False)


@pytest.mark.parametrize("path", PAGES)
def test_without_the_password_a_page_leads_to_the_sign_in(closed: RunningBackend, path: str) -> None:
    answer = closed.http.get(closed.url + path, timeout=60, allow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/login?next=%2F")


@pytest.mark.parametrize("path", DATA)
def test_without_the_password_data_is_401(closed: RunningBackend, path: str) -> None:
    answer = closed.http.get(closed.url + path, timeout=60)
    assert (answer.status_code, answer.json()["success"]) == (401, False)


@pytest.mark.parametrize(
    "path", ["/rules", "/rules/ban", "/rules/restore", "/incidents/1/state", "/time-zone", "/events/saved"]
)
def test_without_the_password_no_rule_changes(closed: RunningBackend, path: str) -> None:
    with visitor() as http:
        form_token = token(http.get(f"{closed.url}/login", timeout=60))
        fields = {"form_token": form_token, "address": "192.0.2.1", "version": "0"}
        answer = http.post(closed.url + path, data=fields, timeout=60, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
    rules = closed.http.get(f"{closed.url}/api/v1/rules", headers=closed.headers, timeout=60).json()
    assert rules["version"] == 0


def test_senders_need_no_password(closed: RunningBackend) -> None:
    assert closed.http.get(f"{closed.url}/api/v1/rules", headers=closed.headers, timeout=60).status_code == 200


def test_the_password_opens_everything_until_the_sign_out(closed: RunningBackend) -> None:
    with visitor() as http:
        answer = sign_in(http, closed, PASSWORD, "/events?action=x")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/events?action=x")
        assert all(http.get(closed.url + path, timeout=60).status_code == 200 for path in DATA)
        page = http.get(f"{closed.url}/rules", timeout=60)
        http.post(f"{closed.url}/logout", data={"form_token": token(page)}, timeout=60)
        assert http.get(closed.url + DATA[0], timeout=60).status_code == 401


def test_a_copy_of_the_cookie_is_worth_nothing_after_the_sign_out(closed: RunningBackend) -> None:
    with visitor() as http, visitor() as thief:
        sign_in(http, closed, PASSWORD)
        thief.cookies.update(http.cookies)
        assert thief.get(closed.url + DATA[0], timeout=60).status_code == 200
        page = http.get(f"{closed.url}/rules", timeout=60)
        http.post(f"{closed.url}/logout", data={"form_token": token(page)}, timeout=60)
        assert thief.get(closed.url + DATA[0], timeout=60).status_code == 401


def test_backends_on_two_ports_of_a_host_do_not_sign_each_other_out(closed: RunningBackend) -> None:
    with running_backend(password=PASSWORD) as neighbour, visitor() as http:
        sign_in(http, closed, PASSWORD)
        sign_in(http, neighbour, PASSWORD)
        assert http.get(neighbour.url + DATA[0], timeout=60).status_code == 200
        assert http.get(closed.url + DATA[0], timeout=60).status_code == 200


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(closed: RunningBackend) -> None:
    with visitor() as http:
        cookie = sign_in(http, closed, PASSWORD).headers["Set-Cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie


def test_too_many_wrong_tries_are_429_and_the_right_password_still_opens(database: Path | URL) -> None:
    with running_backend(db=database, password=PASSWORD) as backend, visitor() as guesser, visitor() as owner:
        tries = [sign_in(guesser, backend, "wrong").status_code for _ in range(TRIES_PER_MINUTE)]
        assert tries == [401] * TRIES_PER_MINUTE
        late = sign_in(guesser, backend, "wrong")
        assert late.status_code == 429
        assert int(late.headers["Retry-After"]) >= 1
        assert guesser.get(backend.url + DATA[0], timeout=60).status_code == 401
        assert sign_in(owner, backend, PASSWORD).status_code == 303
        assert owner.get(backend.url + DATA[0], timeout=60).status_code == 200


def test_late_tries_are_checked_one_at_a_time_and_only_so_many_wait(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    monkeypatch.setattr(visitors_module, "LATE_TRY_SECONDS", 0.001)
    checked: list[str] = []
    at_once, most = 0, 0

    class Slow:
        def matches(self, offered: str) -> bool:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            checked.append(offered)
            threading.Event().wait(0.02)  # long enough for another one to come in, if it may
            at_once -= 1
            return offered == PASSWORD

        def signing_key(self, key: bytes) -> bytes:
            return key

    async def run() -> list[int]:
        visitors = Visitors(Slow(), store.database)  # type: ignore[arg-type]
        request = HTTPConnection({"type": "http", "client": ("192.0.2.1", 1), "headers": []})

        async def attempt(offered: str) -> int:
            try:
                await visitors.try_password(request, offered)
            except Refusal as refusal:
                return refusal.status
            return 303

        first = [await attempt("wrong") for _ in range(TRIES_PER_MINUTE)]
        assert first == [401] * TRIES_PER_MINUTE
        together = await asyncio.gather(*(attempt("wrong") for _ in range(MOST_LATE * 3)))
        assert len(checked) == TRIES_PER_MINUTE + MOST_LATE
        return [*together, await attempt(PASSWORD)]

    assert asyncio.run(run()) == [429] * MOST_LATE * 3 + [303]
    assert most == 1


def test_a_form_without_the_visitors_own_token_changes_nothing(opened: RunningBackend) -> None:
    with visitor() as http, visitor() as other:
        page = http.get(f"{opened.url}/rules", timeout=60)
        foreign = token(other.get(f"{opened.url}/rules", timeout=60))
        for fields in ({}, {"form_token": ""}, {"form_token": foreign}, {"form_token": "é"}):
            answer = http.post(f"{opened.url}/rules/ban", data={**fields, "address": "192.0.2.1"}, timeout=60)
            assert answer.status_code == 403
        for headers in (
            {"Origin": "https://other.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            fields = {"form_token": token(page), "address": "192.0.2.1"}
            assert http.post(f"{opened.url}/rules/ban", data=fields, headers=headers, timeout=60).status_code == 403
    rules = opened.http.get(f"{opened.url}/api/v1/rules", headers=opened.headers, timeout=60).json()
    assert rules["version"] == 0


def test_a_form_in_another_encoding_or_too_large_is_refused(opened: RunningBackend) -> None:
    with visitor() as http:
        http.get(f"{opened.url}/rules", timeout=60)
        assert http.post(f"{opened.url}/rules", json={}, timeout=60).status_code == 415
        assert http.post(f"{opened.url}/rules", data={"message": "x" * 600_000}, timeout=60).status_code == 413


@pytest.mark.parametrize(
    "path", ["/login", "/logout", "/rules", "/rules/ban", "/rules/restore", "/time-zone", "/events/saved"]
)
@pytest.mark.parametrize("headers", [{}, {"Origin": "https://other.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_another_site_can_send_no_form_with_a_visitors_cookie(
    closed: RunningBackend, path: str, headers: dict[str, str]
) -> None:
    with visitor() as http:
        sign_in(http, closed, PASSWORD)
        form_token = token(http.get(f"{closed.url}/rules", timeout=60))
        # Where nothing but the origin tells, the token is there; where no browser tells, it is missing.
        fields = {"form_token": form_token if headers else "", "address": "192.0.2.1", "version": "0"}
        answer = http.post(closed.url + path, data=fields, headers=headers, timeout=60, allow_redirects=False)
        assert answer.status_code == 403
        assert http.get(closed.url + DATA[0], timeout=60).status_code == 200


def test_a_cookie_that_somebody_planted_is_not_signed_in_with_its_bearer(closed: RunningBackend) -> None:
    with visitor() as attacker, visitor() as victim:
        attacker.get(f"{closed.url}/login", timeout=60)
        victim.cookies.update(attacker.cookies)
        assert sign_in(victim, closed, PASSWORD).status_code == 303
        assert dict(victim.cookies) != dict(attacker.cookies)
        assert victim.get(closed.url + DATA[0], timeout=60).status_code == 200
        assert attacker.get(closed.url + DATA[0], timeout=60).status_code == 401


@pytest.mark.parametrize("path", ["/", "/events", "/rules", "/static/dashboard.js", "/local/events", "/none"])
def test_every_answer_tells_the_browser_to_load_nothing_from_elsewhere(opened: RunningBackend, path: str) -> None:
    headers = opened.http.get(opened.url + path, timeout=60).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/events", "/agents", "/rules", "/login"])
def test_no_page_has_inline_scripts_or_styles(closed: RunningBackend, path: str) -> None:
    with visitor() as http:
        sign_in(http, closed, PASSWORD)
        text = http.get(closed.url + path, timeout=60).text
    assert re.findall(r"<script(?! src=)|<style|\sstyle=|\son\w+=", text) == []
    assert PASSWORD not in text
    assert closed.api_key not in text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/events?within=ever", 422),
        ("/events?since=yesterday", 422),
        ("/events?before=x", 422),
        ("/events?project=none", 404),
        ("/events/x", 404),
        ("/events/99999999999999999999", 404),
        ("/events/rows?after=x", 422),
        ("/?window=1y", 422),
        ("/nothing", 404),
    ],
)
def test_what_cannot_be_shown_is_a_page_that_says_why(opened: RunningBackend, path: str, status: int) -> None:
    answer = opened.http.get(opened.url + path, timeout=60)
    assert answer.status_code == status
    assert "To the overview" in answer.text


def test_with_a_password_other_host_names_are_answered(closed: RunningBackend) -> None:
    headers = {**closed.headers, "Host": "guard.example"}
    assert closed.http.get(f"{closed.url}/api/v1/rules", headers=headers, timeout=60).status_code == 200


def test_with_a_password_any_address_can_be_listened_on() -> None:
    with running_backend(password=PASSWORD, host="0.0.0.0") as backend:
        port = backend.url.rpartition(":")[2]
        assert backend.http.get(f"http://127.0.0.1:{port}/login", timeout=60).status_code == 200


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/events?a=b", "/events?a=b"),
        (None, "/"),
        ("", "/"),
        ("https://other.example/", "/"),
        ("//other.example/", "/"),
        ("/\\other.example", "/"),
        ("/\tother", "/"),
        ("///other.example/x", "/"),
        ("////other.example", "/"),
        ("/a//other.example", "/"),
        ("/\\/other.example", "/"),
        ("/events?next=//other.example", "/events?next=//other.example"),
        ("//[x", "/"),
        ("/[x", "/"),
        ("/\n/other.example", "/"),
        (" /events", "/"),
        ("/\u2044other.example", "/"),
        ("/\x00", "/"),
        ("https:/other.example", "/"),
        ("//user@other.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/events/7", "/events/7"),
        ("/events/", "/events/"),
        ("events", "/"),
    ],
)
def test_after_the_sign_in_only_a_path_of_our_own_is_followed(text: str | None, path: str) -> None:
    assert own_path(text) == path


class Ended:
    """Sessions that were ended, in memory."""

    def __init__(self) -> None:
        self._ids: set[str] = set()

    def end(self, session_id: str, expires_at: float) -> None:
        self._ids.add(session_id)

    def is_ended(self, session_id: str) -> bool:
        return session_id in self._ids


def test_a_login_that_was_ended_holds_no_longer_whoever_has_its_cookie() -> None:
    sessions = Sessions(b"a key", Ended())
    login, other = sessions.start(signed_in=True), sessions.start(signed_in=True)
    sessions.end(login)
    assert sessions.read(sessions.cookie(login)) is None
    assert sessions.read(sessions.cookie(other)) == other


def test_what_signs_depends_on_the_password_and_on_the_database() -> None:
    signing = {
        Password(text).signing_key(key) for text in (PASSWORD, PASSWORD, "another horse") for key in (b"1", b"2")
    }
    assert len(signing) == 4


def test_a_session_is_only_what_we_signed_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(b"a key", Ended())
    cookie = sessions.cookie(sessions.start(signed_in=False))
    known = sessions.read(cookie)
    assert known is not None
    assert not known.signed_in
    assert sessions.read(cookie.replace(".0.", ".1.")) is None
    assert Sessions(b"another key", Ended()).read(cookie) is None
    for text in ("", ".", "...", "é", cookie[:-1]):
        assert sessions.read(text) is None
    later = sessions_module.time.time() + SESSION_SECONDS + 1
    monkeypatch.setattr(sessions_module.time, "time", lambda: later)
    assert sessions.read(cookie) is None


def test_a_password_is_compared_as_a_hash_and_cannot_be_read_back() -> None:
    password = Password(PASSWORD)
    assert password.matches(PASSWORD)
    assert not password.matches(PASSWORD + " ")
    assert PASSWORD not in repr(vars(password))
    with pytest.raises(ValueError, match="at least 8") as caught:
        Password("hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "template", ["", "javascript:{trace_id}", "http://x/", "/trace/{trace_id}", "http://x/{trace_id}{x}"]
)
def test_a_trace_url_that_leads_nowhere_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(template))):
        TraceLink(template)


def test_a_trace_link_takes_identifiers_and_nothing_else() -> None:
    link = TraceLink("http://x/t/{trace_id}?s={span_id}")
    assert link.url("a" * 32, "b" * 16) == f"http://x/t/{'a' * 32}?s={'b' * 16}"
    assert link.url("a" * 32, "../..") == f"http://x/t/{'a' * 32}?s="
    assert link.url("../../", "b" * 16) is None
    assert link.url(7, None) is None


def test_wrong_passwords_from_elsewhere_do_not_lock_the_owner_out() -> None:
    with running_backend(password=PASSWORD) as backend:
        for last in range(2, 20):
            with visitor() as elsewhere:
                elsewhere.mount("http://", From(f"127.0.0.{last}"))
                statuses = [sign_in(elsewhere, backend, "wrong").status_code for _ in range(TRIES_PER_MINUTE)]
                assert statuses == [401] * TRIES_PER_MINUTE
        with visitor() as owner:
            assert sign_in(owner, backend, PASSWORD).status_code == 303


def test_a_header_does_not_make_another_client_of_who_tries_passwords() -> None:
    with running_backend(password=PASSWORD) as backend, visitor() as http:
        statuses = []
        for last in range(TRIES_PER_MINUTE + 1):
            http.headers["X-Forwarded-For"] = f"203.0.113.{last}"
            statuses.append(sign_in(http, backend, "wrong").status_code)
        assert statuses == [401] * TRIES_PER_MINUTE + [429]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a socket", "a socket"),
    ],
)
def test_tries_are_counted_by_what_one_client_has_to_itself(address: str, network: str) -> None:
    assert subscriber(address) == network
