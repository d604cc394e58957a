"""`opentelemetry-guard events` lists and follows what a local backend has, and ends when nobody reads it any more."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.backend import ROOT, RunningBackend, running_backend
from support.commands import COMMAND, environment, run, settings_of
from support.redis import eventually
from support.sending import event, send

from opentelemetry_guard.models import SecurityEvent
from opentelemetry_guard.siem.formats import FORMATS


@pytest.fixture(scope="module")
def backend() -> Iterator[RunningBackend]:
    with running_backend() as running:
        yield running


def listed(backend: RunningBackend, home: Path, *arguments: str) -> str:
    result = run(home, "events", *arguments, **settings_of(backend))
    assert result.returncode == 0, result.stderr
    return result.stdout


@contextmanager
def following(backend: RunningBackend, home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, "events", "--follow", *arguments],
        env=environment(home, **settings_of(backend)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_each_format_is_a_line_for_each_event(backend: RunningBackend, tmp_path: Path, name: str) -> None:
    made = [event(event_type=f"a_{name}", reason=f"{n}|=\n", ip_address="203.0.113.7") for n in range(3)]
    send(backend, *made)
    out = listed(backend, tmp_path, "--format", name, "--type", f"a_{name}")
    rows = [SecurityEvent.model_validate(one).model_dump(mode="json") for one in made]
    assert out.splitlines() == [FORMATS[name].line(row).decode() for row in rows]


def test_the_table_has_a_line_for_each_event_and_commands_no_terminal(backend: RunningBackend, tmp_path: Path) -> None:
    send(backend, event(event_type="b", reason="x\x1b[2J\n\u202ey", ip_address="203.0.113.7", method="GET"))
    (line,) = listed(backend, tmp_path, "--type", "b").splitlines()
    assert "GET from 203.0.113.7" in line
    assert line.isprintable()


def test_the_table_has_events_of_any_time(backend: RunningBackend, tmp_path: Path) -> None:
    times = ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.500000Z", "9999-12-31T23:59:59.999999Z"]
    for time in times:
        send(backend, event(event_type="any_time", timestamp=time))
    lines = listed(backend, tmp_path, "--all", "--type", "any_time").splitlines()
    assert [line[:19] for line in lines] == ["0001-01-01 00:00:00", "1969-12-31 23:59:59", "9999-12-31 23:59:59"]


def test_the_filters_are_those_of_the_dashboard(backend: RunningBackend, tmp_path: Path) -> None:
    for number, address in enumerate(["198.51.100.1", "198.51.100.2", "192.0.2.1"]):
        metadata = {"guard.service.name": f"s{number % 2}"}
        send(backend, event(event_type="c", ip_address=address, reason=str(number), metadata=metadata))

    def reasons(*arguments: str) -> list[str]:
        out = listed(backend, tmp_path, "--format", "ndjson", "--type", "c", *arguments)
        return [json.loads(line)["reason"] for line in out.splitlines()]

    assert reasons("--address", "198.51.100.*") == ["0", "1"]
    assert reasons("--service", "s0") == ["0", "2"]
    assert reasons("--last", "1") == ["2"]
    assert reasons("--within", "15m") == []
    assert reasons("--until", "2020-01-01") == []


def test_all_are_more_than_one_answer_holds(backend: RunningBackend, tmp_path: Path) -> None:
    send(backend, *(event(event_type="d", reason=str(n)) for n in range(1100)))
    out = listed(backend, tmp_path, "--all", "--format", "ndjson", "--type", "d")
    assert [json.loads(line)["reason"] for line in out.splitlines()] == [str(n) for n in range(1100)]


def test_what_arrives_is_followed_until_ctrl_c(backend: RunningBackend, tmp_path: Path) -> None:
    send(backend, event(event_type="e", reason="before"))
    with following(backend, tmp_path, "--format", "ndjson", "--type", "e") as process:
        assert json.loads(line_of(process))["reason"] == "before"
        for number in range(3):
            send(backend, event(event_type="e", reason=str(number)))
            assert json.loads(line_of(process))["reason"] == str(number)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")


def test_ctrl_c_ends_it_at_every_point_of_its_waiting(backend: RunningBackend, tmp_path: Path) -> None:
    # A question and the wait for its answer are some 40 points.
    points = list(range(1, 46))
    send(backend, event(event_type="h"))
    ran = subprocess.run(
        [sys.executable, str(ROOT / "tests/support/pressed.py"), json.dumps(points), "events", "--follow"],
        env=environment(tmp_path, **settings_of(backend)),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr
    assert [json.loads(line) for line in ran.stdout.splitlines()] == [[point, 130, ""] for point in points]


@pytest.fixture
def held_up(backend: RunningBackend, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A command in the midst of its output: it has more to write than a pipe holds."""
    send(backend, *(event(event_type="i", reason="x" * 1000) for _ in range(200)))
    with following(backend, tmp_path, "--format", "ndjson", "--type", "i", "--last", "200") as process:
        assert line_of(process)
        yield process


def test_ctrl_c_leaves_no_half_line(held_up: subprocess.Popen[str]) -> None:
    assert held_up.stdout is not None
    held_up.send_signal(signal.SIGINT)
    assert [json.loads(line)["event_type"] for line in held_up.stdout.read().splitlines()] == ["i"] * 199
    assert held_up.wait(60) == 130


def test_another_ctrl_c_waits_for_no_reader(held_up: subprocess.Popen[str]) -> None:
    def pressed_again() -> bool:
        held_up.send_signal(signal.SIGINT)  # two that come at once are one
        return held_up.poll() is not None

    eventually(pressed_again, seconds=60)
    assert held_up.returncode == 130


def test_it_ends_when_nobody_reads_even_if_nothing_arrives(backend: RunningBackend, tmp_path: Path) -> None:
    send(backend, event(event_type="f"))
    with following(backend, tmp_path, "--format", "cef", "--type", "f") as process:
        assert line_of(process).startswith("CEF:0|")
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.stdout = None


def test_a_reader_that_goes_in_the_midst_ends_it_too(backend: RunningBackend, tmp_path: Path) -> None:
    for _ in range(4):
        send(backend, *(event(event_type="g", reason="x" * 1000) for _ in range(100)))
    with following(backend, tmp_path, "--format", "ndjson", "--type", "g", "--last", "400") as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.stdout = None


def test_a_backend_that_restarts_is_followed_on(tmp_path: Path) -> None:
    with running_backend() as backend, following(backend, tmp_path, "--format", "ndjson") as process:
        assert process.stderr is not None
        send(backend, event(reason="before"))
        assert json.loads(line_of(process))["reason"] == "before"
        backend.stop()
        assert "Trying again." in process.stderr.readline()
        backend.start()
        assert process.stderr.readline() == "The backend answers again.\n"
        send(backend, event(reason="after"))
        assert json.loads(line_of(process))["reason"] == "after"


@pytest.mark.parametrize(
    ("arguments", "variables", "told"),
    [
        (["--format", "xml"], {}, "must be one of table, ndjson, ocsf, ecs, cef"),
        (["--api-key", "wrong"], {}, "OTEL_EXPORTER_GUARD_API_KEY"),
        (["--within", "1y"], {}, "within must be one of"),
        (["--url", "http://127.0.0.1:9"], {}, "doesn't answer"),
        ([], {"OTEL_EXPORTER_GUARD_API_KEY": ""}, "There is no API key"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    backend: RunningBackend, tmp_path: Path, arguments: list[str], variables: dict[str, str], told: str
) -> None:
    result = run(tmp_path, "events", *arguments, **{**settings_of(backend), **variables})
    assert result.returncode in (1, 2)
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert told in result.stderr
    assert backend.api_key not in result.stderr
