"""What the exporters share: one delivery, settings that can't take an application down, nothing opened too early."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
import requests
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.trace.export import SpanExportResult
from support.guard_server import API_KEY, guard_server
from support.pipeline import pipeline

from opentelemetry_guard import GuardLogExporter, GuardMetricExporter, GuardSpanExporter
from opentelemetry_guard.events.tally import DISABLED, TALLY
from opentelemetry_guard.queue import url as queue_url

EXPORTERS: list[type[Any]] = [GuardLogExporter, GuardSpanExporter, GuardMetricExporter]
EVENT = {"event_type": "ip_blocked", "ip_address": "192.0.2.1"}
ROOT = Path(__file__).parents[2]


NO_THREAD_AT_THE_END = (
    "can't create new thread at interpreter shutdown" if (3, 12) <= sys.version_info < (3, 12, 3) else "\0"
)
"""What ends the last flush of OpenTelemetry's log handler on these releases of Python, when all has been sent."""


def sender_threads() -> list[threading.Thread]:
    """Return the threads of deliveries that run in this process."""
    return [thread for thread in threading.enumerate() if thread.name == "OtelGuardSender"]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an environment without settings but the given ones."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment(**environment))


def clean_environment(**environment: str) -> dict[str, str]:
    """Return this process's environment, which has no OTEL_* variables, with the package importable."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **environment}


def program(name: str) -> str:
    """Return the path of a script that is installed beside this interpreter."""
    return str(Path(sys.executable).with_name(name))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_an_exporter_can_be_made_with_no_arguments(exporter: type[Any]) -> None:
    made = exporter()
    made.shutdown()


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"timeout": -1}, ValueError, "timeout is '-1'"),
        ({"queue_url": "nosuch://x"}, ValueError, "queue_url can't be used"),
        ({"queue_url": "sqlite://relative"}, ValueError, "queue_url can't be used"),
        ({"timout": 1}, TypeError, "'timout', allowed are endpoint"),
    ],
)
def test_a_wrong_keyword_raises(
    exporter: type[Any], keywords: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        exporter(**keywords)
    assert sender_threads() == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [("TIMEOUT", "soon"), ("ENDPOINT", "nonsense"), ("QUEUE_URL", "nosuch://x"), ("COMPRESSION", "lzma")],
)
def test_a_wrong_variable_switches_guard_export_off_with_one_error_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"OTEL_EXPORTER_GUARD_{variable}", value)
    stranger = InMemoryLogRecordExporter()
    with pipeline(logs=[GuardLogExporter(), stranger], spans=[GuardSpanExporter()]) as made:
        with made.tracer.start_as_current_span("GET /"):
            made.emitter.emit_event(EVENT)
        assert len(stranger.get_finished_logs()) == 1
        assert sender_threads() == []
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"OTEL_EXPORTER_GUARD_{variable}" in caplog.text
    assert TALLY.read().dropped == {"events": {DISABLED: 2}}


def test_a_store_that_refuses_the_url_of_the_environment_switches_guard_export_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(queue_url.BUILT_IN, "broken", "no_such_module:Store")
    with pytest.raises(ValueError, match="queue_url can't be used"):
        GuardLogExporter(queue_url="broken://x")
    monkeypatch.setenv("OTEL_EXPORTER_GUARD_QUEUE_URL", "broken://x")
    exporter = GuardLogExporter()
    exporter.shutdown()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "OTEL_EXPORTER_GUARD_QUEUE_URL" in caplog.text


def test_a_key_never_appears_in_logs_even_when_it_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with guard_server(api_key="another-key") as server:
        settings = {**server.settings, "api_key": "s3cr3t-of-mine", "headers": {"x-token": "s3cr3t-of-mine"}}
        with pipeline(logs=[GuardLogExporter(**settings)]) as made:
            made.emitter.emit_event(EVENT)
            server.wait_for_requests(1)
        assert server.requests[0].headers["x-api-key"] == "s3cr3t-of-mine"
    assert "check OTEL_EXPORTER_GUARD_API_KEY" in caplog.text
    assert "s3cr3t-of-mine" not in caplog.text


def test_without_a_key_batches_wait_with_one_clear_message(caplog: pytest.LogCaptureFixture) -> None:
    with guard_server() as server:
        exporter = GuardLogExporter(**{**server.settings, "api_key": None})
        with pipeline(logs=[exporter]) as made:
            made.emitter.emit_event(EVENT)
            made.emitter.emit_event(EVENT)
            assert not exporter.force_flush(5_000)
        assert server.requests == []
    assert len([text for text in caplog.messages if "no API key" in text]) == 1


def test_a_disabled_sdk_opens_nothing_and_starts_no_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "True")
    exporters = [exporter() for exporter in EXPORTERS]
    assert exporters[0].export([]) is LogRecordExportResult.SUCCESS
    assert exporters[1].export([]) is SpanExportResult.SUCCESS
    assert exporters[0].force_flush()
    assert sender_threads() == []
    assert list(tmp_path.iterdir()) == []
    for exporter in exporters:
        exporter.shutdown()


def test_exporters_open_nothing_before_the_first_row(tmp_path: Path) -> None:
    with guard_server() as server:
        settings = {**server.settings, "queue_url": None}
        exporters = [exporter(**settings) for exporter in EXPORTERS]
        assert len(sender_threads()) == 1
        exporters[0].export([])
        exporters[1].export([])
        exporters[2].export(MetricsData([]))
        assert server.requests == []
        assert list(tmp_path.iterdir()) == []
        for exporter in exporters:
            exporter.shutdown()
    assert sender_threads() == []


def test_different_settings_for_one_destination_are_the_first_exporters_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with guard_server() as server:
        first = GuardLogExporter(**server.settings)
        others = [
            GuardSpanExporter(**{**server.settings, "timeout": 3}),
            GuardMetricExporter(**{**server.settings, "api_key": "other-key", "compression": "none"}),
        ]
        with pipeline(logs=[first]) as made:
            made.emitter.emit_event(EVENT)
            server.wait_for_events(1)
        for exporter in others:
            exporter.shutdown()
    assert server.requests[0].headers["x-api-key"] == API_KEY
    (warning,) = [text for text in caplog.messages if "share one delivery" in text]
    assert "timeout" in warning
    assert "other-key" not in caplog.text


def test_another_project_is_another_delivery() -> None:
    with guard_server() as server:
        one, two = (GuardLogExporter(**{**server.settings, "project_id": project}) for project in ("one", "two"))
        assert len(sender_threads()) == 2
        with pipeline(logs=[one, two]) as made:
            made.emitter.emit_event(EVENT)
            server.wait_for_events(2)
        assert sorted(request.document["project_id"] for request in server.requests) == ["one", "two"]


@pytest.mark.parametrize("fault", ["reset", "drip", "delay", "html"])
def test_an_export_never_waits_for_a_backend_in_trouble(fault: str) -> None:
    with guard_server() as server:
        if fault == "html":
            server.answer(200, b"<html>log in</html>")
        else:
            server.answer(**{fault: True if fault == "reset" else 30.0})
        with pipeline(logs=[GuardLogExporter(**{**server.settings, "timeout": 0.5})]) as made:
            made.emitter.emit_event(EVENT)
            server.wait_until(lambda: any(request.accepted for request in server.requests[1:]), "a second try")
        assert len({request.document["batch_id"] for request in server.requests}) == 1


def test_importing_the_package_starts_no_thread_and_opens_no_socket_or_file(tmp_path: Path) -> None:
    script = """
import os, socket, sys, threading
opened = []
sys.addaudithook(lambda name, args: opened.append((name, args)) if name.startswith("socket.")
    or (name == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        and "__pycache__" not in str(args[0])) else None)
import opentelemetry_guard, opentelemetry_guard.instrumentation
print([entry for entry in opened if entry[0] != "socket.gethostname"], [t.name for t in threading.enumerate()])
"""
    done = run(sys.executable, "-B", "-c", script)
    assert (done.stdout, done.stderr) == ("[] ['MainThread']\n", "")
    assert list(tmp_path.iterdir()) == []


def test_every_setting_is_an_option_of_the_command_line(tmp_path: Path) -> None:
    done = run(
        program("opentelemetry-instrument"),
        "--traces_exporter=none",
        "--metrics_exporter=none",
        "--logs_exporter=none",
        "--exporter_guard_endpoint=http://127.0.0.1:9",
        "--exporter_guard_project_id=p",
        sys.executable,
        "-c",
        "import os; print(os.environ['OTEL_EXPORTER_GUARD_ENDPOINT'], os.environ['OTEL_EXPORTER_GUARD_PROJECT_ID'])",
    )
    assert done.stdout == "http://127.0.0.1:9 p\n", done.stderr


DECLARATIVE = """
file_format: "1.0"
tracer_provider:
  processors: [{batch: {exporter: {guard: null}}}]
logger_provider:
  processors: [{batch: {exporter: {guard: {project_id: "${PROJECT:-from-file}", install_id: "${NO_SUCH:-}"}}}}]
meter_provider:
  readers: [{periodic: {exporter: {guard: {compression: none, headers: [{name: x-one, value: "1"}]}}}}]
"""

EMITTING = """
from opentelemetry import _logs, metrics, trace
from opentelemetry_guard import emit_event, record_metric
with trace.get_tracer("app").start_as_current_span("GET /"):
    emit_event(event_type="ip_blocked")
record_metric(metric_type="threat_level", value=1)
"""


def test_a_declarative_configuration_builds_all_three_exporters(tmp_path: Path) -> None:
    configuration = tmp_path / "otel.yaml"
    configuration.write_text(DECLARATIVE)
    with guard_server() as server:
        environment = {**server.environment, "OTEL_EXPORTER_GUARD_PROJECT_ID": "from-file"}
        done = run(
            program("opentelemetry-instrument"),
            sys.executable,
            "-c",
            EMITTING,
            OTEL_CONFIG_FILE=str(configuration),
            **environment,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("Traceback") == done.stderr.count(NO_THREAD_AT_THE_END), done.stderr
        assert [event["event_type"] for event in server.events] == ["ip_blocked"], done.stderr
        assert [row["metric_type"] for row in server.metrics] == ["threat_level"]
        assert {request.document["project_id"] for request in server.requests} == {"from-file"}


APPLICATION = """
    from fastapi import FastAPI
    from opentelemetry_guard import emit_event

    app = FastAPI()

    @app.get("/attack/{number}")
    def attack(number: int):
        emit_event(event_type="penetration_attempt", reason=str(number))
        return {}
"""


def test_the_event_of_the_last_request_before_sigterm_arrives_with_default_delays(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(textwrap.dedent(APPLICATION))
    exporters = {f"OTEL_{signal}_EXPORTER": "guard" for signal in ("TRACES", "LOGS", "METRICS")}
    with guard_server() as server, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        process = subprocess.Popen(
            [
                program("opentelemetry-instrument"),
                program("uvicorn"),
                "main:app",
                f"--fd={listening.fileno()}",
                "--log-level=warning",
            ],
            cwd=tmp_path,
            env=clean_environment(**server.environment, **exporters),
            pass_fds=[listening.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            with requests.Session() as client:
                client.trust_env = False
                for number in range(5):
                    # The socket listens already: the first request waits for the application to accept it.
                    address = f"http://127.0.0.1:{listening.getsockname()[1]}/attack/{number}"
                    assert client.get(address, timeout=40).status_code == 200
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
        assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM), errors
        assert sorted(event["reason"] for event in server.events) == ["0", "1", "2", "3", "4"], errors
        assert all(len(event["metadata"]["trace_id"]) == 32 for event in server.events)
        counted = [row for row in server.metrics if row["metric_type"] == "request_count"]
        assert sum(row["value"] for row in counted) == 5, json.dumps(server.metrics)
