"""The switch that has plain applications enforce the backend's rules: once, and never beside another guard."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from guard import SecurityConfig, SecurityMiddleware
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from support.asgi import get
from support.recording import Recording, recording

from opentelemetry_guard import GuardRulesMiddleware
from opentelemetry_guard import rules as rules_client
from opentelemetry_guard.instrumentation import http as fastapi_apps
from opentelemetry_guard.models import DynamicRules
from opentelemetry_guard.settings.instrumentation import GuardOptions

BANNED = DynamicRules(ip_blacklist=["203.0.113.7"], version=4)
ON = GuardOptions(behavior=False, http_events=False, enforce_rules=True)


class Subscribers:
    """Stands for the process's client of the backend's rules."""

    def __init__(self) -> None:
        self.now = 0

    def subscribe(self, callback: Callable[[Any, DynamicRules], None], interval: float | None = None) -> Any:
        self.now += 1
        callback(None, BANNED)
        return self.unsubscribe

    def unsubscribe(self) -> None:
        self.now -= 1


@pytest.fixture
def subscribers(monkeypatch: pytest.MonkeyPatch) -> Subscribers:
    found = Subscribers()
    monkeypatch.setattr(rules_client, "subscribe", found.subscribe)
    return found


@contextmanager
def installed(options: GuardOptions) -> Iterator[Recording]:
    with recording() as recorded:
        fastapi_apps.install(options, recorded.pipeline.emitter)
        try:
            yield recorded
        finally:
            fastapi_apps.uninstall()


def plain() -> Starlette:
    async def hello(_: object) -> PlainTextResponse:
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/", hello)])


def fastapi_application() -> FastAPI:
    app = FastAPI()
    app.add_api_route("/", lambda: "hello")
    return app


@pytest.mark.parametrize("build", [plain, fastapi_application])
def test_a_plain_application_refuses_whom_rules_ban(build: Callable[[], Any], subscribers: Subscribers) -> None:
    with installed(ON) as recorded:
        app = build()
        assert get(app, "/") == 403
        assert get(app, "/", address="203.0.113.8") == 200
        (event,) = recorded.events()
    assert (event["event_type"], event["metadata"]["rule_version"]) == ("ip_blocked", 4)


def test_an_application_that_is_served_already_does_too(subscribers: Subscribers) -> None:
    app = plain()
    assert get(app, "/") == 200
    with installed(ON):
        assert get(app, "/") == 403


def test_it_is_off_by_default(subscribers: Subscribers) -> None:
    with installed(GuardOptions(behavior=False)):
        assert get(plain(), "/") == 200
    assert subscribers.now == 0


def test_uninstalling_lets_everybody_in_and_asks_no_more(subscribers: Subscribers) -> None:
    app = plain()
    with installed(ON):
        assert (get(app, "/"), subscribers.now) == (403, 1)
    assert (get(app, "/"), subscribers.now) == (200, 0)


def test_the_middleware_that_is_there_already_stays_alone(subscribers: Subscribers) -> None:
    app = fastapi_application()
    app.add_middleware(GuardRulesMiddleware, rules=DynamicRules())
    with installed(ON):
        assert get(app, "/") == 200
    assert subscribers.now == 0


def test_an_application_within_another_is_not_asked_a_second_time(subscribers: Subscribers) -> None:
    with installed(ON):
        outer = Starlette(routes=[Mount("/inner", app=plain())])
        assert (get(outer, "/inner/"), get(outer, "/inner/", address="203.0.113.8")) == (403, 200)
        assert subscribers.now == 1


def test_what_was_given_in_code_counts(subscribers: Subscribers) -> None:
    given = GuardOptions(
        behavior=False, enforce_rules=True, trusted_proxies=GuardOptions.read("trusted_proxies", "198.51.100.1")
    )
    with installed(given):
        behind = {"X-Forwarded-For": "203.0.113.7"}
        assert get(plain(), "/", address="198.51.100.1", headers=behind) == 403


def test_fastapi_guard_stays_alone(subscribers: Subscribers) -> None:
    app = fastapi_application()
    app.add_middleware(
        SecurityMiddleware, config=SecurityConfig(enable_redis=False, enable_agent=False, enable_rate_limiting=False)
    )
    with installed(ON):
        assert get(app, "/", address="203.0.113.7") == 200
    assert subscribers.now == 0


SAYS = """
import logging
logging.basicConfig(level=logging.WARNING)
from opentelemetry_guard.instrumentation import http
from opentelemetry_guard.settings.instrumentation import GuardOptions
for _ in range(2):
    http.install(GuardOptions.resolve())
    http.uninstall()
"""


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, None),
        ({"ENFORCE_RULES": "true"}, "dynamic rules are enforced"),
        ({"ENFORCE_RULES": "true", "RULES_INTERVAL": "0"}, "has no effect"),
    ],
)
def test_it_is_said_once_at_the_start(variables: dict[str, str], words: str | None) -> None:
    environment = {f"OTEL_PYTHON_GUARD_{name}": value for name, value in variables.items()}
    told = subprocess.run(
        [sys.executable, "-c", SAYS], env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stderr
    assert told.count("ENFORCE_RULES") == (0 if words is None else 1), told
    assert words is None or words in told
