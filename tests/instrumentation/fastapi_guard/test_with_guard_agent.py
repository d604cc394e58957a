"""An application that turned on guard-agent, with that package there: one pipeline to our destination, else both.

fastapi-guard works without guard-agent, and the other tests do; these run where it is installed (nox session
``guard_with_agent``).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from support.application import ZERO_CODE, running_application
from support.backend import running_backend
from support.guarded import INJECTION, attack, configured, guarded, send, told
from support.redis import eventually

from opentelemetry_guard.exporters.log import GuardLogExporter
from opentelemetry_guard.instrumentation import fastapi_guard
from opentelemetry_guard.settings import late
from opentelemetry_guard.settings.instrumentation import GuardOptions

guard = pytest.importorskip("guard", reason="fastapi-guard is not installed; the extra `fastapi-guard` has it")
guard_agent: Any = pytest.importorskip("guard_agent", reason="guard-agent is not installed, and need not be")

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def _exported() -> Iterator[None]:
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(
        SimpleLogRecordProcessor(GuardLogExporter(endpoint=NOWHERE, project_id="ours", queue_url="memory://"))
    )
    fastapi_guard.install(GuardOptions(rules_interval=0))
    yield
    fastapi_guard.uninstall()
    logs.shutdown()
    late.forget()


@pytest.mark.usefixtures("_exported")
def test_a_replaced_agent_holds_nothing() -> None:
    config = guard.SecurityConfig(
        enable_redis=False,
        trusted_proxies=["127.0.0.1"],
        enable_agent=True,
        agent_api_key="a-key-of-an-agent",
        agent_endpoint=NOWHERE,
        agent_project_id="ours",
    )
    app = FastAPI()
    app.add_middleware(guard.SecurityMiddleware, config=config)
    tasks: list[str] = []

    @app.get("/tasks")
    async def look() -> None:
        tasks.extend(repr(task.get_coro()) for task in asyncio.all_tasks())

    with TestClient(app, client=("127.0.0.1", 50000), headers={"X-Forwarded-For": "203.0.113.7"}) as client:
        assert client.get("/tasks").status_code == 200
    assert guard_agent.GuardAgentHandler._instance is None
    assert not [task for task in tasks if "guard_agent" in task or "_flush_loop" in task]
    assert not [thread for thread in threading.enumerate() if "guard_agent" in repr(thread)]


def test_our_destination_gets_each_incident_once() -> None:
    with running_backend() as backend:
        said = configured(
            enable_agent=True,
            agent_api_key=backend.api_key,
            agent_endpoint=backend.url,
            agent_project_id=backend.project,
            agent_flush_interval=1,
        )
        with guarded(backend, **said) as app:
            expected = attack(app)
            app.stop()
        assert told(backend) == expected


def test_with_nothing_in_the_environment_the_agents_destination_is_ours() -> None:
    with running_backend() as backend:
        said = configured(
            enable_agent=True,
            agent_api_key=backend.api_key,
            agent_endpoint=backend.url,
            agent_project_id=backend.project,
            agent_flush_interval=1,
        )
        with running_application("support.guarded_app:app", {**ZERO_CODE, **said}, "--no-proxy-headers") as app:
            assert send(app, INJECTION, "198.51.100.3", trace=3) == 400
            backend.wait_for_events(1)
            app.stop()
        assert told(backend) == [(3, "penetration_attempt", "198.51.100.3", 400, "/items/{number}")]


def test_an_agent_of_another_project_goes_on_beside_ours() -> None:
    with running_backend() as ours, running_backend(project="theirs", api_key="their-own-key") as theirs:
        said = configured(
            enable_agent=True,
            agent_api_key=theirs.api_key,
            agent_endpoint=theirs.url,
            agent_project_id=theirs.project,
            agent_flush_interval=1,
        )
        with guarded(ours, **said) as app:
            assert send(app, INJECTION, "198.51.100.3", trace=3) == 400
            eventually(lambda: theirs.events("penetration_attempt"))
            app.stop()
        assert told(ours) == [(3, "penetration_attempt", "198.51.100.3", 400, "/items/{number}")]
        assert [event["ip_address"] for event in theirs.events("penetration_attempt")] == ["198.51.100.3"]
