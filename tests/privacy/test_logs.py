"""What the HTTP stack logs carries no secret to anybody's exporter; records of other loggers stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry._logs import NoOpLoggerProvider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

from opentelemetry_guard import privacy
from opentelemetry_guard.privacy import logs as log_privacy

SECRET = "hunter2-Zx81qT"


class Logged:
    """A provider that keeps its records; its exporter comes before our processor and gets each at once."""

    def __init__(self) -> None:
        self.exporter = InMemoryLogRecordExporter()
        self.provider = LoggerProvider(shutdown_on_exit=False)
        self.provider.add_log_record_processor(SimpleLogRecordProcessor(self.exporter))

    def log(self, logger: str, message: str) -> None:
        self.provider.get_logger(logger).emit(body=message, attributes={"exception.message": message})

    @property
    def written(self) -> str:
        return "".join(record.to_json() for record in self.exporter.get_finished_logs())


@pytest.fixture
def logged() -> Iterator[Logged]:
    privacy.reset()
    made = Logged()
    log_privacy.install(made.provider)
    yield made
    log_privacy.uninstall()
    made.provider.shutdown()
    privacy.reset()


@pytest.mark.parametrize("logger", ["guard_core", "guard_core.utils", "uvicorn.error", "fastapi"])
def test_what_the_http_stack_logs_is_masked_before_any_exporter_sees_it(logged: Logged, logger: str) -> None:
    logged.log(logger, f"Suspicious activity: GET /login?password={SECRET}&page=2")
    assert SECRET not in logged.written
    assert logged.written.count("password=[REDACTED]&page=2") == 2


def test_the_exception_that_fastapi_itself_records_is_masked(logged: Logged) -> None:
    pytest.importorskip("fastapi.telemetry")
    app = FastAPI(telemetry={"logger_provider": logged.provider, "tracer_provider": TracerProvider()})

    @app.get("/")
    def fail() -> None:
        raise RuntimeError(f"can't connect to postgres://bob:{SECRET}@db/shop")

    TestClient(app, raise_server_exceptions=False).get("/")
    assert "RuntimeError" in logged.written
    assert SECRET not in logged.written


def test_a_body_and_attributes_that_are_no_texts_are_masked_at_any_depth(logged: Logged) -> None:
    nested = {"headers": [{"cookie": SECRET}], "form": {"password": SECRET, "user": "bob"}, "data": b"kept"}
    logged.provider.get_logger("guard_core").emit(body=nested, attributes={"request": nested})
    assert SECRET not in logged.written
    assert logged.written.count("bob") == 2


@pytest.mark.parametrize(
    "body",
    [
        {"text": "attack from 203.0.113.7", "note": "kept"},
        {"outer": [{"text": "203.0.113.7 and 2001:db8::1"}], "note": "kept"},
        ["kept", "attack from 203.0.113.7"],
        "kept: attack from 203.0.113.7",
    ],
)
def test_the_addresses_in_a_body_are_hashed_at_any_depth_where_a_key_is_set(logged: Logged, body: Any) -> None:
    privacy.configure(address_key="key")
    logged.provider.get_logger("guard_core").emit(body=body)
    assert "ip-hmac-" in logged.written
    assert "kept" in logged.written
    assert "203.0.113.7" not in logged.written
    assert "2001:db8::1" not in logged.written


def test_other_loggers_are_the_applications(logged: Logged) -> None:
    logged.log("shop", f"password={SECRET}")
    assert logged.written.count(SECRET) == 2


def test_a_second_installation_adds_nothing_and_an_uninstalled_one_does_nothing(logged: Logged) -> None:
    chain = logged.provider._multi_log_record_processor
    before = chain._log_record_processors
    log_privacy.install(logged.provider)
    assert chain._log_record_processors == before
    log_privacy.uninstall()
    logged.log("guard_core", f"password={SECRET}")
    assert SECRET in logged.written


def test_masking_alone_is_no_reason_to_log() -> None:
    provider = LoggerProvider(shutdown_on_exit=False)
    log_privacy.install(provider)
    assert not provider.get_logger("fastapi").enabled()


def test_a_provider_that_records_nothing_is_left_alone() -> None:
    log_privacy.install(NoOpLoggerProvider())


def test_a_record_that_can_not_be_cleaned_loses_its_contents_and_nothing_raises(
    logged: Logged, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(privacy.Privacy, "message", lambda self, message: 1 // 0)
    logged.log("guard_core", f"password={SECRET}")
    logged.log("guard_core", f"password={SECRET}")
    assert SECRET not in logged.written
    assert SECRET not in caplog.text
    assert [record.message.partition(",")[0] for record in caplog.records] == [
        "log records of the HTTP stack can't be cleaned of secrets"
    ]
