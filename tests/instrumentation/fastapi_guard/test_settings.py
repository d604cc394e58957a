"""What a `SecurityConfig` says about delivery, and when our handler takes the place of the agent that it turns on."""

from __future__ import annotations

import importlib.util
import logging
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, ConsoleLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from opentelemetry_guard import privacy
from opentelemetry_guard.exporters.log import GuardLogExporter
from opentelemetry_guard.exporters.span import GuardSpanExporter
from opentelemetry_guard.instrumentation import fastapi_guard
from opentelemetry_guard.instrumentation.fastapi_guard import settings as guard_settings
from opentelemetry_guard.settings import late
from opentelemetry_guard.settings.delivery import GuardConfig
from opentelemetry_guard.settings.instrumentation import GuardOptions
from opentelemetry_guard.settings.table import SETTINGS

guard = pytest.importorskip("guard", reason="fastapi-guard is not installed; the extra `fastapi-guard` has it")

NOWHERE = "http://127.0.0.1:9"
SIGNING, ENCRYPTION = "sign-with-this", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
INSTALL = "0f0e0d0c-0b0a-4908-8706-050403020100"


def settings(**more: Any) -> Any:
    return guard.SecurityConfig(**{"enable_redis": False, **more})


@pytest.fixture(autouse=True)
def _nothing_was_offered() -> Iterator[None]:
    late.forget()
    privacy.reset()
    yield
    late.forget()
    privacy.reset()


@pytest.mark.parametrize(
    ("field", "value", "setting", "expected"),
    [
        ("agent_api_key", "the-key", "api_key", "the-key"),
        ("agent_project_id", "the-project", "project_id", "the-project"),
        ("agent_endpoint", f"{NOWHERE}/", "endpoint", NOWHERE),
        ("agent_buffer_size", 7, "batch_size", 7),
        ("agent_enable_events", False, "enable_events", False),
        ("agent_enable_metrics", False, "enable_metrics", False),
        ("agent_timeout", 3, "timeout", 3.0),
        ("agent_retry_attempts", 2, "retry_attempts", 2),
        ("agent_backoff_factor", 0.25, "backoff_factor", 0.25),
        ("agent_compression_enabled", False, "compression", "none"),
        ("agent_compression_enabled", True, "compression", "gzip"),
        ("agent_compression_threshold", 99, "compression_threshold", 99),
        ("agent_install_id", INSTALL, "install_id", INSTALL),
        ("agent_payload_signing_secret", SIGNING, "signing_secret", SIGNING),
        ("agent_project_encryption_key", ENCRYPTION, "encryption_key", ENCRYPTION),
        ("agent_status_interval", 60, "status_interval", 60.0),
        ("agent_buffer_overflow_policy", "drop", "queue_overflow", "drop_oldest"),
        ("agent_buffer_overflow_policy", "block", "queue_overflow", "drop_newest"),
        ("agent_buffer_overflow_policy", "raise", "queue_overflow", "drop_newest"),
    ],
)
def test_a_field_that_the_application_sets_is_a_setting(
    field: str, value: object, setting: str, expected: object
) -> None:
    if field not in guard.SecurityConfig.model_fields:
        pytest.skip(f"this release has no {field}")
    if setting == "encryption_key":
        pytest.importorskip("cryptography")
    guard_settings.offer(settings(**{field: value}))
    assert getattr(GuardConfig.resolve(), setting) == expected


def test_what_the_application_says_about_privacy_is_offered(caplog: pytest.LogCaptureFixture) -> None:
    if "agent_sensitive_headers" not in guard.SecurityConfig.model_fields:
        pytest.skip("this release has no agent_sensitive_headers")
    guard_settings.offer(settings(agent_sensitive_headers=["x-internal"], agent_max_payload_size=64))
    row = privacy.current().event({"metadata": {"headers": {"X-Internal": "hush"}, "long": "a" * 500}})
    assert row is not None
    assert "hush" not in str(row)
    assert "a" * 65 not in str(row)
    guard_settings.offer(settings(agent_max_payload_size=-1))
    assert "fastapi-guard's SecurityConfig: max_payload_size" in caplog.text


def test_the_tables_name_every_field_that_there_is() -> None:
    document = guard_settings.__doc__ or ""
    known = {f"agent_{found.declared.agent}" for found in SETTINGS} | set(guard_settings.NO_COUNTERPART)
    fields = [name for name in guard.SecurityConfig.model_fields if name.startswith("agent_")]
    assert fields
    assert [field for field in fields if field not in known and f"`{field}`" not in document] == []


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_GUARD_API_KEY", "the-operators")
    guard_settings.offer(settings(agent_api_key="the-applications", agent_project_id="the-applications"))
    resolved = GuardConfig.resolve()
    assert (resolved.api_key, resolved.project_id) == ("the-operators", "the-applications")


def test_defaults_of_fastapi_guard_and_empty_values_change_nothing() -> None:
    assert guard_settings.chosen(settings()) == {}
    assert guard_settings.chosen(settings(agent_api_key="", agent_project_id=None)) == {}


def test_an_agent_that_is_on_has_a_destination_said_or_not() -> None:
    config = settings(enable_agent=True, agent_api_key="a-key-of-an-agent")
    assert guard_settings.chosen(config)["endpoint"] == config.agent_endpoint


def test_a_field_without_a_counterpart_is_named_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    if "agent_max_concurrent_flushes" not in guard.SecurityConfig.model_fields:
        pytest.skip("this release has no agent_max_concurrent_flushes")
    with caplog.at_level(logging.INFO):
        guard_settings.offer(settings(agent_max_concurrent_flushes=3))
    assert "agent_max_concurrent_flushes has no effect on Guard export" in caplog.text


@pytest.mark.parametrize(("said", "asked", "expected"), [(90, None, 90.0), (90, 5.0, 5.0), (None, None, None)])
def test_rules_are_polled_as_the_options_say_and_else_as_the_application_says(
    said: int | None, asked: float | None, expected: float | None
) -> None:
    config = settings(**({"dynamic_rule_interval": said} if said else {}))
    assert guard_settings.rules_interval(config, asked) == expected


class Providers:
    """Global providers of this test: a Guard exporter and somebody else's in each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.logs, self.spans = LoggerProvider(shutdown_on_exit=False), TracerProvider(shutdown_on_exit=False)
        self.log_batches = [
            BatchLogRecordProcessor(exporter, schedule_delay_millis=5000)
            for exporter in (GuardLogExporter(queue_url="memory://"), ConsoleLogRecordExporter())
        ]
        self.span_batch = BatchSpanProcessor(GuardSpanExporter(queue_url="memory://"), schedule_delay_millis=5000)
        for processor in self.log_batches:
            self.logs.add_log_record_processor(processor)
        self.spans.add_span_processor(self.span_batch)
        monkeypatch.setattr(guard_settings, "get_logger_provider", lambda: self.logs)
        monkeypatch.setattr(guard_settings, "get_tracer_provider", lambda: self.spans)

    def delays(self) -> list[float]:
        return [each._batch_processor._schedule_delay for each in (*self.log_batches, self.span_batch)]

    def close(self) -> None:
        self.logs.shutdown()
        self.spans.shutdown()


@pytest.fixture
def providers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Providers]:
    monkeypatch.setenv("OTEL_EXPORTER_GUARD_ENDPOINT", NOWHERE)
    built = Providers(monkeypatch)
    yield built
    built.close()


def test_a_flush_interval_shortens_what_the_guard_exporters_wait(providers: Providers) -> None:
    guard_settings.offer(settings(agent_flush_interval=2))
    assert providers.delays() == [2, 5, 2]


def test_a_flush_interval_makes_nothing_wait_longer(providers: Providers) -> None:
    guard_settings.offer(settings(agent_flush_interval=30))
    assert providers.delays() == [5, 5, 5]


def test_a_delay_that_the_operator_has_set_stays(providers: Providers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "5000")
    guard_settings.offer(settings(agent_flush_interval=2))
    assert providers.delays() == [5, 5, 2]


@pytest.fixture
def agents(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The agents that were made, of a package that stands for guard-agent."""
    made: list[object] = []
    package: Any = types.ModuleType("guard_agent")

    def guard_agent(config: object) -> object:
        made.append(config)
        return types.SimpleNamespace(get_stats=dict)

    package.guard_agent = guard_agent
    package.AgentConfig = lambda **fields: fields
    monkeypatch.setitem(sys.modules, "guard_agent", package)
    return made


@pytest.fixture
def _instrumented() -> Iterator[None]:
    fastapi_guard.install(GuardOptions(rules_interval=0))
    yield
    fastapi_guard.uninstall()


def agent_on(**more: Any) -> Any:
    return settings(
        enable_agent=True,
        **{"agent_api_key": "a-key-of-an-agent", "agent_endpoint": NOWHERE, "agent_project_id": "ours", **more},
    )


@pytest.mark.usefixtures("_instrumented", "providers")
def test_an_agent_with_our_destination_is_not_even_made(agents: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    config = agent_on()
    middleware = guard.SecurityMiddleware(FastAPI(), config=config)
    assert agents == []
    assert type(middleware.agent_handler).__name__ == "GuardAgentHandler"
    assert config.enable_agent, "the application's settings are as it made them"


@pytest.mark.usefixtures("_instrumented", "providers")
@pytest.mark.parametrize("elsewhere", [{"agent_endpoint": "http://127.0.0.1:1"}, {"agent_project_id": "other"}])
def test_an_agent_with_another_destination_works_beside_ours(agents: list[object], elsewhere: dict[str, str]) -> None:
    late.offer("a test", endpoint=NOWHERE, project_id="ours")
    middleware = guard.SecurityMiddleware(FastAPI(), config=agent_on(**elsewhere))
    assert len(agents) == 1
    assert type(middleware.agent_handler).__name__ == "BesideAgent"


@pytest.mark.usefixtures("_instrumented", "providers")
@pytest.mark.parametrize(("key", "agents_made"), [("a-key-of-an-agent", 0), ("a-key-of-another", 1)])
def test_an_agent_that_names_no_project_is_of_its_keys_project(
    agents: list[object], key: str, agents_made: int
) -> None:
    late.offer("a test", endpoint=NOWHERE, project_id="ours", api_key="a-key-of-an-agent")
    guard.SecurityMiddleware(FastAPI(), config=agent_on(agent_project_id=None, agent_api_key=key))
    assert len(agents) == agents_made


@pytest.mark.usefixtures("_instrumented")
def test_an_agent_is_not_replaced_where_no_guard_exporter_would_deliver(agents: list[object]) -> None:
    guard.SecurityMiddleware(FastAPI(), config=agent_on())
    assert len(agents) == 1


@pytest.mark.usefixtures("_instrumented", "providers")
def test_an_agent_whose_package_is_missing_is_ours(caplog: pytest.LogCaptureFixture) -> None:
    if guard_settings.is_installed("guard_agent"):
        pytest.skip("guard-agent is installed")
    middleware = guard.SecurityMiddleware(FastAPI(), config=agent_on(agent_strict=True))
    assert type(middleware.agent_handler).__name__ == "GuardAgentHandler"
    assert "not installed" not in caplog.text


@pytest.mark.usefixtures("_instrumented")
def test_an_agent_that_nothing_stands_for_is_named_with_what_delivers(caplog: pytest.LogCaptureFixture) -> None:
    if guard_settings.is_installed("guard_agent"):
        pytest.skip("guard-agent is installed")
    middleware = guard.SecurityMiddleware(FastAPI(), config=agent_on())
    assert type(middleware.agent_handler).__name__ == "GuardAgentHandler"
    assert "OTEL_LOGS_EXPORTER=guard" in caplog.text


def test_who_looks_for_a_missing_package_that_is_stood_in_for_gets_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry_guard.instrumentation.fastapi_guard import patches as guard_patches

    monkeypatch.setitem(sys.modules, "guard_agent", guard_patches._stand_in)
    assert importlib.util.find_spec("guard_agent") is not None
    assert not guard_settings.is_installed("guard_agent")


def test_an_exporter_in_a_pipeline_that_is_not_the_global_one_counts_too() -> None:
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(
        SimpleLogRecordProcessor(GuardLogExporter(endpoint=NOWHERE, project_id="ours", queue_url="memory://"))
    )
    try:
        assert guard_settings.replaces_agent(agent_on())
    finally:
        logs.shutdown()
