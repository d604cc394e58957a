"""A guarded application that knows nothing of us: a real uvicorn under ``opentelemetry-instrument``, a real backend.

The whole list of what fastapi-guard can refuse is sent to every way of
putting it into an application. Each request is a part of a trace of its own
number; what arrives bears that number, once for each incident.
"""

from __future__ import annotations

import asyncio
import importlib.util
from contextlib import ExitStack

import pytest
from support.application import ZERO_CODE, RunningApplication, running_application
from support.backend import running_backend
from support.guarded import HTTP_REQUESTS, INJECTION, attack, configured, guarded, send, told, traceparent
from support.redis import eventually, redis_server

from opentelemetry_guard.models import DynamicRules

guard = pytest.importorskip("guard", reason="fastapi-guard is not installed; the extra `fastapi-guard` has it")

needs_asgi = pytest.mark.skipif(
    not hasattr(guard, "PureASGISecurityMiddleware"), reason="this release has no PureASGISecurityMiddleware"
)
needs_lifespan = pytest.mark.skipif(
    importlib.util.find_spec("guard.lifespan") is None, reason="this release has no helpers for lifespans"
)


WAYS = [
    pytest.param({}, id="classic"),
    pytest.param({"GUARDED_APP_MIDDLEWARE": "asgi"}, id="asgi", marks=needs_asgi),
    pytest.param({"GUARDED_APP_LIFESPAN": "true"}, id="lifespan", marks=needs_lifespan),
    pytest.param({"GUARDED_APP_OTEL": "true"}, id="with-guard-cores-own-otel"),
    pytest.param({"OTEL_SEMCONV_STABILITY_OPT_IN": "http"}, id="new-conventions"),
]


@pytest.mark.parametrize("settings", WAYS)
def test_each_incident_arrives_once_with_its_trace_and_status(settings: dict[str, str]) -> None:
    with running_backend() as backend:
        with guarded(backend, **settings) as app:
            expected = attack(app)
            app.stop()
        assert told(backend) == expected
        noise = backend.events("security_headers_applied")
        counted = sum(1 + event["metadata"].get("folded", 0) for event in noise)
        assert len(noise) == 2, "noise arrives once a minute, and at the end"
        assert counted >= 3, "each path that was answered is in the count"
        requests_counted = sum(row["value"] for row in backend.metrics() if row["metric_type"] == "request_count")
        assert requests_counted == HTTP_REQUESTS, "each request is counted once, by the HTTP instrumentation"


@pytest.mark.parametrize("settings", [WAYS[0], WAYS[1]])
def test_with_redis_each_incident_arrives_once_too(settings: dict[str, str]) -> None:
    with redis_server() as server, running_backend() as backend:
        with guarded(backend, GUARDED_APP_REDIS=f"redis://127.0.0.1:{server.port}", **settings) as app:
            expected = attack(app)
            app.stop()
        assert told(backend) == expected
        assert backend.events("redis_connection")


async def send_at_once(application: RunningApplication, count: int) -> list[int]:
    """Send `count` requests, each of a trace of its own, all under way together; return the answers' status."""
    host, port = application.url.removeprefix("http://").split(":")
    connections = [await asyncio.open_connection(host, int(port)) for _ in range(count)]
    for number, (_, writer) in enumerate(connections, 1):
        writer.write(
            f"GET /items/{number} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
            f"X-Forwarded-For: {client_of(number)}\r\ntraceparent: {traceparent(number)}\r\n\r\n".encode()
        )
    answers = await asyncio.gather(*(reader.readline() for reader, _ in connections))
    for _, writer in connections:
        writer.close()
    return [int(answer.split()[1]) for answer in answers]


def client_of(number: int) -> str:
    return f"198.51.100.{number % 200}"


def test_concurrent_requests_keep_their_traces_apart() -> None:
    count = 500
    with running_backend() as backend:
        # Without its detection, which takes guard-core a tenth of a second for each of them.
        own = configured(blacklist=["198.51.100.0/24"], enable_penetration_detection=False)
        with guarded(backend, OTEL_PYTHON_GUARD_TRUSTED_PROXIES="127.0.0.1", **own) as app:
            assert asyncio.run(send_at_once(app, count)) == [403] * count
            app.stop()
        assert told(backend) == [
            (number, "ip_blocked", client_of(number), 403, "/items/{number}") for number in range(1, count + 1)
        ]


def test_an_attack_in_a_trace_that_is_not_sampled_arrives() -> None:
    with running_backend() as backend, guarded(backend, OTEL_TRACES_SAMPLER="always_off") as app:
        assert send(app, INJECTION, "198.51.100.3", trace=3) == 400
        app.stop()
        assert told(backend) == [(3, "penetration_attempt", "198.51.100.3", 400, "/items/{number}")]


def test_what_the_application_says_about_its_agent_is_enough_to_deliver() -> None:
    with running_backend() as backend:
        said = configured(agent_api_key=backend.api_key, agent_endpoint=backend.url, agent_project_id=backend.project)
        environment = {**ZERO_CODE, **said}
        with running_application("support.guarded_app:app", environment, "--no-proxy-headers") as app:
            assert send(app, INJECTION, "198.51.100.3", trace=3) == 400
            backend.wait_for_events(1)
            app.stop()
        assert told(backend) == [(3, "penetration_attempt", "198.51.100.3", 400, "/items/{number}")]


def test_an_agent_that_is_turned_on_for_the_same_project_leaves_one_pipeline() -> None:
    """Without the package of the agent it is captured all the same, with it it isn't started."""
    with running_backend() as backend:
        said = configured(
            enable_agent=True,
            agent_api_key=backend.api_key,
            agent_endpoint=backend.url,
            agent_project_id=backend.project,
            agent_flush_interval=1,
        )
        with running_application("support.guarded_app:app", {**ZERO_CODE, **said}, "--no-proxy-headers") as app:
            expected = attack(app)
            app.stop()
        assert told(backend) == expected
        versions = {row["agent_version"] for row in backend.agents() if row.get("agent_version")}
        assert len(versions) <= 1


@pytest.mark.parametrize("with_redis", [False, True], ids=["alone", "with-redis"])
@pytest.mark.parametrize("banned", ["198.51.100.8", "198.51.100.0/24"])
def test_a_ban_at_the_backend_is_in_force_when_it_is_known_and_lifted_again(banned: str, with_redis: bool) -> None:
    with ExitStack() as stack:
        settings = {"OTEL_PYTHON_GUARD_RULES_INTERVAL": "1"}
        if with_redis:
            server = stack.enter_context(redis_server())
            settings["GUARDED_APP_REDIS"] = f"redis://127.0.0.1:{server.port}"
        backend = stack.enter_context(running_backend())
        app = stack.enter_context(guarded(backend, **settings))
        assert send(app, "/items/1", "198.51.100.8", trace=1) == 200
        backend.set_rules(DynamicRules(rule_id="r", version=1, ip_blacklist=[banned]))
        eventually(lambda: send(app, "/items/1", "198.51.100.8", trace=2) == 403)
        backend.set_rules(DynamicRules(rule_id="r", version=2))
        eventually(lambda: send(app, "/items/1", "198.51.100.8", trace=3) == 200)
