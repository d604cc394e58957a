"""What outlives a process: spans that were exported are delivered by whoever comes next, and ends are in time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.faults import python_environment, read_line
from support.otlp_receiver import Receiver

App = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def environment(receiver: Receiver, queue_url: str) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_PYTHON_EXPORTER_DURABLE_QUEUE_URL": queue_url,
        "OTEL_PYTHON_EXPORTER_DURABLE_SHUTDOWN_TIMEOUT": "20",
    }


@pytest.fixture
def app(environment: dict[str, str]) -> Iterator[App]:
    """Return what starts an application."""
    started: list[subprocess.Popen[str]] = []

    def start(*prefix: str, **plan: object) -> subprocess.Popen[str]:
        command = [*(prefix or (sys.executable,)), "-m", "support.durable_app", json.dumps(plan)]
        started.append(
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=python_environment(environment),
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def received(receiver: Receiver, count: int, timeout: float = 60.0) -> dict[str, Any]:
    return receiver.wait(lambda seen: seen["distinct"]["spans"] >= count, timeout)


@pytest.mark.slow
def test_what_a_killed_process_had_exported_is_delivered_by_the_next_one(receiver: Receiver, app: App) -> None:
    receiver.set_mode("status", status=503)
    killed = app(count=100, then="wait")
    assert read_line(killed) == {"exported": 100}
    killed.kill()
    killed.wait()
    receiver.set_mode("ok")
    app(count=10, first=1000, then="wait")
    seen = received(receiver, 110, timeout=60)  # a lease of 20 seconds has to run out
    assert (seen["received"]["spans"], seen["distinct"]["spans"]) == (110, 110)


@pytest.mark.parametrize("mode", ["ok", "hang"])
def test_sigterm_exports_what_was_not_and_the_process_ends_in_time(
    receiver: Receiver, app: App, environment: dict[str, str], mode: str
) -> None:
    receiver.set_mode(mode)
    if mode == "hang":
        environment["OTEL_PYTHON_EXPORTER_DURABLE_SHUTDOWN_TIMEOUT"] = "2"
    process = app(count=100, flush=False, then="wait")
    assert read_line(process) == {"exported": 100}
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == -signal.SIGTERM
    receiver.set_mode("ok")
    if mode == "hang":
        app(count=1, first=1000)
        assert received(receiver, 101)["distinct"]["spans"] == 101
    assert received(receiver, 100)["distinct"]["spans"] >= 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_delivers_parents_and_childs_spans_once_each(receiver: Receiver, app: App) -> None:
    process = app(count=50, then="fork")
    assert process.wait(timeout=60) == 0
    seen = received(receiver, 150)
    assert (seen["received"]["spans"], seen["distinct"]["spans"]) == (150, 150)


def test_a_receiver_that_is_away_when_the_process_ends_gets_all_from_the_next_one(receiver: Receiver, app: App) -> None:
    receiver.set_mode("reset")
    assert app(count=100).wait(timeout=60) == 0
    receiver.set_mode("ok")
    assert app(count=1, first=1000).wait(timeout=60) == 0
    assert received(receiver, 101)["distinct"]["spans"] == 101


ZERO_CODE = """
import logging
from opentelemetry import metrics, trace
with trace.get_tracer("app").start_as_current_span("work", attributes={"n": 1}):
    logging.getLogger("app").warning("text")
metrics.get_meter("app").create_counter("c").add(1, {"n": 1})
"""

INSTRUMENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))
SIGNALS = ("TRACES", "LOGS", "METRICS")


def run_zero_code(environment: dict[str, str], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INSTRUMENT, sys.executable, "-c", ZERO_CODE],
        env=python_environment({**environment, "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true", **more}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_three_exporters_need_no_line_of_code(receiver: Receiver, environment: dict[str, str]) -> None:
    exporters = {f"OTEL_{signal}_EXPORTER": "otlp_durable" for signal in SIGNALS}
    done = run_zero_code(environment, **exporters)
    assert done.returncode == 0, done.stderr
    seen = receiver.wait(lambda seen: all(seen["received"].values()))
    assert all(seen["received"].values()), (seen, done.stderr)


def test_a_wrong_variable_switches_this_exporter_off_and_no_other(environment: dict[str, str]) -> None:
    wrong = {"OTEL_EXPORTER_OTLP_ENDPOINT": "nowhere:4317", "OTEL_TRACES_EXPORTER": "otlp_durable,console"}
    done = run_zero_code(environment, **wrong, OTEL_LOGS_EXPORTER="none", OTEL_METRICS_EXPORTER="none")
    assert done.returncode == 0, done.stderr
    assert '"name": "work"' in done.stdout
    assert done.stderr.count("OTEL_EXPORTER_OTLP_ENDPOINT is 'nowhere:4317/v1/traces'") == 1


def test_neither_a_guard_setting_nor_a_key_is_needed(receiver: Receiver, environment: dict[str, str]) -> None:
    done = run_zero_code(
        environment, OTEL_TRACES_EXPORTER="otlp_durable", OTEL_LOGS_EXPORTER="none", OTEL_METRICS_EXPORTER="none"
    )
    assert "GUARD" not in done.stderr
    assert received(receiver, 1)["received"]["spans"] == 1
