"""The event log has each event once, whole and private, whoever else writes to it and whether a backend answers."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.backend import ROOT
from support.guard_server import guard_server
from support.pipeline import pipeline

from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.delivery.event_log import EventLog, event_log
from opentelemetry_guard.events.codec import complete, to_row
from opentelemetry_guard.exporters.log import GuardLogExporter
from opentelemetry_guard.exporters.span import GuardSpanExporter
from opentelemetry_guard.settings.delivery import GuardConfig
from opentelemetry_guard.siem.formats import FORMATS

NOBODY = "http://127.0.0.1:9"


def events(*reasons: str) -> list[Any]:
    return [complete(to_row({"event_type": "ip_blocked", "reason": reason})[0]) for reason in reasons]


Make = Callable[..., Delivery]


@pytest.fixture
def delivery(tmp_path: Path) -> Iterator[Make]:
    """Make deliveries whose events go to a file of the directory, and close them at the end."""
    made: list[Delivery] = []

    def make(**settings: object) -> Delivery:
        log = {"event_log": str(tmp_path / "logs" / "events.ndjson")}
        given = {"endpoint": NOBODY, "api_key": "k", "queue_url": "memory://", "status_interval": 0, **log, **settings}
        made.append(Delivery(GuardConfig.resolve({}, **given)))
        return made[-1]

    yield make
    for one in made:
        one.close(0.0)


def reasons(path: Path) -> list[str]:
    return [json.loads(line)["reason"] for line in path.read_bytes().splitlines()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_line_for_each_event_without_any_backend_in_a_private_file(tmp_path: Path, delivery: Make) -> None:
    path = tmp_path / "logs" / "events.ndjson"
    made = delivery()
    rows = events("a", "b\n")
    made.submit("events", rows)
    made.submit("metrics", [{"metric_type": "request_count", "value": 1.0}])
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == rows
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    log = made.stats().event_log
    assert log is not None
    assert (log.written, log.lost) == (2, 0)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_lines_have_the_format_that_is_set(tmp_path: Path, delivery: Make, name: str) -> None:
    rows = events("a", "b")
    delivery(event_log_format=name).submit("events", rows)
    assert (tmp_path / "logs" / "events.ndjson").read_bytes().splitlines() == [FORMATS[name].line(row) for row in rows]


def test_an_event_that_is_logged_and_on_a_span_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    with guard_server() as server:
        settings = {**server.settings, "event_log": str(path)}
        exporters = GuardLogExporter(**settings), GuardSpanExporter(**settings)
        with pipeline(logs=[exporters[0]], spans=[exporters[1]]) as made:
            with made.tracer.start_as_current_span("GET /"):
                made.emitter.emit_event(event_type="ip_blocked", reason="in a span")
            made.emitter.emit_event(event_type="ip_blocked", reason="in none")
        assert sorted(reasons(path)) == ["in a span", "in none"] == sorted(event["reason"] for event in server.events)


def test_an_event_for_two_destinations_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    with guard_server() as first, guard_server() as second:
        exporters = [GuardLogExporter(**{**one.settings, "event_log": str(path)}) for one in (first, second)]
        with pipeline(logs=exporters) as made:
            made.emitter.emit_event(event_type="ip_blocked", reason="for both")
    assert reasons(path) == ["for both"]
    assert [one["reason"] for server in (first, second) for one in server.events] == ["for both"] * 2


def test_events_that_are_switched_off_are_written_and_not_sent(tmp_path: Path, delivery: Make) -> None:
    made = delivery(enable_events="false")
    made.submit("events", events("a"))
    assert reasons(tmp_path / "logs" / "events.ndjson") == ["a"]
    assert made.stats().depth == 0


def test_it_is_rotated_and_no_more_files_are_kept_than_are_set(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    line = len(FORMATS["ndjson"].line(events("000")[0])) + 1
    log = EventLog(str(path), "ndjson", 10 * line, 2)
    for number in range(100):
        log.write(events(f"{number:03}"))
    kept = [tmp_path / "events.ndjson.2", tmp_path / "events.ndjson.1", path]
    assert [reason for file in kept for reason in reasons(file)] == [f"{number:03}" for number in range(70, 100)]
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "events.ndjson.lock"])
    assert {mode(file) for file in kept} == {0o600}


@pytest.fixture(params=[0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have the umask of a usual and of a careful service."""
    former = os.umask(request.param)
    yield
    os.umask(former)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("moved_by", ["itself", "logrotate"])
def test_who_opened_the_file_for_others_finds_its_successor_open_too(tmp_path: Path, moved_by: str) -> None:
    path = tmp_path / "events.ndjson"
    path.touch()
    path.chmod(0o660)
    groups = sorted({*os.getgroups(), *([1] if os.getuid() == 0 else [])} - {os.getgid()})
    if groups:
        os.chown(path, -1, groups[0])  # the shipper's
    wanted = (0o660, path.stat().st_gid)
    log = EventLog(str(path), "ndjson", 10 if moved_by == "itself" else 0, 2)
    log.write(events("a"))
    if moved_by == "logrotate":
        path.rename(tmp_path / "moved")
    log.write(events("b"))
    assert (reasons(path), (mode(path), path.stat().st_gid)) == (["b"], wanted)


def test_a_file_that_logrotate_has_made_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    log = EventLog(str(path), "ndjson", 0, 2)
    log.write(events("a"))
    path.rename(tmp_path / "moved")
    path.touch()
    path.chmod(0o640)
    log.write(events("b"))
    assert (reasons(path), mode(path)) == (["b"], 0o640)


def test_a_group_that_cannot_be_handed_on_is_not_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not of that group")

    path = tmp_path / "events.ndjson"
    path.touch()
    path.chmod(0o640)
    log = EventLog(str(path), "ndjson", 10, 2)
    log.write(events("a"))
    monkeypatch.setattr(os, "fchown", refuse)
    real = os.fstat

    def of_another_group(descriptor: int) -> os.stat_result:
        found = list(real(descriptor))
        if found[6]:  # the file that has events
            found[5] += 1
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", of_another_group)
    log.write(events("b"))
    assert (reasons(path), mode(path)) == (["b"], 0o600)


def test_what_is_in_the_way_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "events.ndjson"
    (tmp_path / "events.ndjson.lock").mkdir()
    EventLog(str(path), "ndjson", 10, 2).write(events("a"))
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"'{path}.lock': Is a directory" in warning


def test_a_file_that_another_program_has_moved_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    log = EventLog(str(path), "ndjson", 0, 1)
    log.write(events("a"))
    path.rename(tmp_path / "moved")
    log.write(events("b"))
    path.unlink()
    log.write(events("c"))
    assert (reasons(tmp_path / "moved"), reasons(path)) == (["a"], ["c"])


WRITER = """
import sys
from opentelemetry_guard.delivery.event_log import EventLog, event_log
from opentelemetry_guard.events.codec import complete, to_row
path, name = sys.argv[1:]
log = EventLog(path, "ndjson", 40_000, 500)
for batch in range(60):
    log.write([complete(to_row({"event_type": "e", "reason": f"{name}-{batch}-{n}" + "x" * 200})[0]) for n in range(5)])
assert log.stats.written == 300, log.stats
"""


def test_several_processes_tear_no_line_and_lose_none_while_the_file_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(name)], env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        for name in range(4)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 4
    files = [file for file in tmp_path.iterdir() if not file.name.endswith(".lock")]
    assert len(files) > 4
    assert max(file.stat().st_size for file in files) <= 40_000
    found = Counter(reason.rstrip("x") for file in files for reason in reasons(file))
    assert found == Counter(f"{name}-{batch}-{n}" for name in range(4) for batch in range(60) for n in range(5))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_writes_to_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    config = GuardConfig.resolve({}, event_log=str(path))

    def write(reason: str) -> None:
        log = event_log(config)
        assert log is not None
        log.write(events(reason))

    write("before")
    child = os.fork()
    if child == 0:
        try:
            write("child")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    write("after")
    assert reasons(path) == ["before", "child", "after"]


LOADER = """
import sys
from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.events.codec import complete, to_row
from opentelemetry_guard.settings.delivery import GuardConfig
path, name = sys.argv[1:]
given = {"endpoint": "http://127.0.0.1:9", "api_key": "k", "queue_url": "memory://", "status_interval": 0}
delivery = Delivery(GuardConfig.resolve({}, event_log=path, event_log_format=name, **given))
loaded = set(sys.modules)
delivery._event_log().write([complete(to_row({"event_type": "e"})[0])])
print(*(module for module in set(sys.modules) - loaded if module.startswith("opentelemetry_guard")))
"""


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_no_fork_comes_in_the_midst_of_the_import_of_what_a_write_needs(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-c", LOADER, str(tmp_path / "events.ndjson"), name]
    ended = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    assert (ended.stdout.strip(), ended.returncode) == ("", 0), ended.stderr


def test_what_cannot_be_written_is_said_once_counted_and_delivered(
    tmp_path: Path, delivery: Make, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "events.ndjson"
    with guard_server() as server:
        made = delivery(**server.settings, event_log=str(path))
        made.submit("events", events("a", "b"))
        made.submit("events", events("c"))
        assert made.flush(20)
        made.close(20)
        assert sorted(event["reason"] for event in server.events) == ["a", "b", "c"]
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "OTEL_EXPORTER_GUARD_EVENT_LOG" in warning.getMessage()
    log = made.stats().event_log
    assert log is not None
    assert (log.written, log.lost) == (0, 3)


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_is_no_file_is_not_written_to(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "events", tmp_path / "target"
    target.write_text("untouched")
    if kind == "link":
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    log = EventLog(str(path), "ndjson", 100, 1)
    if kind == "directory":
        path.mkdir()
    log.write(events("a"))
    assert log.stats.lost == 1
    assert target.read_text() == "untouched"


def test_a_full_disk_leaves_no_torn_line_and_writing_goes_on_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    log = EventLog(str(path), "ndjson", 0, 1)
    log.write(events("first"))
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # The disk is full in the midst of the second event.
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, hard))
        log.write(events("second"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    assert (reasons(path), log.stats.lost) == (["first"], 1)
    log.write(events("third"))
    assert reasons(path) == ["first", "third"]
    assert (log.stats.written, log.stats.lost) == (2, 1)
