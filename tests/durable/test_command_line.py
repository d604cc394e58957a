"""``opentelemetry-guard queue`` and ``doctor`` know the queues of the durable exporters, without a Guard setting."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.faults import python_environment
from support.otlp_receiver import Receiver

from .conftest import spans

Make = Callable[..., Any]


@pytest.fixture
def environment(receiver: Receiver, queue_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_PYTHON_EXPORTER_DURABLE_QUEUE_URL": queue_url,
        "OTEL_TRACES_EXPORTER": "otlp_durable",
    }


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "opentelemetry_guard.cli", *arguments]
    return subprocess.run(
        command, env=python_environment(environment), capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def left_behind(receiver: Receiver, make: Make) -> None:
    """A queue in which a process that is gone has left 20 spans, and 10 dead ones."""
    receiver.set_mode("poison", message="field is bad")
    exporter = make()
    exporter.export(spans(range(660, 670)))
    exporter.force_flush(5000)
    receiver.set_mode("status", status=503)
    exporter.export(spans(range(20)))
    exporter.shutdown(500)
    receiver.set_mode("ok")


@pytest.mark.usefixtures("left_behind")
def test_a_queue_tells_where_every_row_is(environment: dict[str, str]) -> None:
    done = run(environment, "queue", "stats", "--json")
    found = json.loads(done.stdout)
    assert list(found["ledger"]) == ["spans", "logs", "points"], done.stderr
    assert (found["ledger"]["spans"]["queued"], found["ledger"]["spans"]["dead_lettered"]) == (20, 10)


@pytest.mark.usefixtures("left_behind")
def test_a_dead_letter_is_shown_with_its_spans(environment: dict[str, str]) -> None:
    (letter,) = json.loads(run(environment, "queue", "dead-letters", "list", "--json").stdout)
    assert (letter["status"], letter["reason"]) == (400, "field is bad")
    shown = run(environment, "queue", "dead-letters", "show", letter["batch_id"])
    assert "span 666" in shown.stdout, shown.stderr


@pytest.mark.usefixtures("left_behind")
def test_a_queue_is_drained_to_the_receiver_of_the_environment(receiver: Receiver, environment: dict[str, str]) -> None:
    assert run(environment, "queue", "dead-letters", "replay", "--all").returncode == 0
    done = run(environment, "queue", "drain", "--timeout", "60")
    assert done.returncode == 0, done.stderr
    assert receiver.seen()["distinct"]["spans"] == 30


@pytest.mark.usefixtures("left_behind")
def test_a_queue_is_never_drained_to_another_tenant(environment: dict[str, str], queue_url: str) -> None:
    other = {**environment, "OTEL_EXPORTER_OTLP_HEADERS": "x-scope-orgid=somebody-else"}
    done = run(other, "queue", "drain", "--url", queue_url)
    assert done.returncode == 1
    assert "another receiver or tenant" in done.stderr


def test_doctor_needs_no_guard(environment: dict[str, str]) -> None:
    done = run(environment, "doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    said = {finding["subject"]: finding["message"] for finding in found["findings"]}
    assert "takes requests" in said["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert "can be written" in said["OTEL_PYTHON_EXPORTER_DURABLE_QUEUE_URL"]
    assert not [subject for subject in said if "GUARD" in subject]


@pytest.mark.parametrize(
    ("mode", "text"),
    [({"name": "status", "status": 401}, "check the token"), ({"name": "page"}, "a web page")],
)
def test_doctor_says_why_a_receiver_refuses_us(
    receiver: Receiver, environment: dict[str, str], mode: dict[str, Any], text: str
) -> None:
    receiver.set_mode(**mode)
    done = run(environment, "doctor")
    assert done.returncode == 1
    assert text in done.stdout


def test_doctor_names_a_wrong_variable(environment: dict[str, str]) -> None:
    wrong = {**environment, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "nowhere:4317"}
    done = run(wrong, "doctor")
    assert done.returncode == 1
    assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" in done.stdout
