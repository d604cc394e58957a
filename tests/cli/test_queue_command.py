"""`opentelemetry-guard queue` as a person meets it, on every store."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.backend import RunningBackend, running_backend
from support.commands import run, settings_of
from support.left_queue import PROJECT, Left, leave
from support.redis import redis_server

from opentelemetry_guard.cli.output import one_line
from opentelemetry_guard.cli.stores import OpenedStore
from opentelemetry_guard.delivery.envelope import Envelope
from opentelemetry_guard.queue.base import DeliveryQueue, QueueOptions, QueueUnavailable
from opentelemetry_guard.queue.memory import MemoryQueue
from opentelemetry_guard.settings.delivery import GuardConfig


@pytest.fixture(scope="module")
def backend() -> Iterator[RunningBackend]:
    with running_backend(project=PROJECT) as running:
        yield running


@pytest.fixture(params=["sqlite", "default", "redis"])
def left(request: pytest.FixtureRequest, tmp_path: Path, backend: RunningBackend) -> Iterator[Left]:
    variables = settings_of(backend)
    if request.param == "redis":
        with redis_server() as server:
            yield leave(tmp_path, f"redis://127.0.0.1:{server.port}/0", variables)
    elif request.param == "sqlite":
        yield leave(tmp_path, f"sqlite://{tmp_path}/queues/guard.db", variables)
    else:
        yield leave(tmp_path, "", variables)


def test_stats_show_the_ledger(left: Left) -> None:
    code, out, err = left.command("stats")
    assert (code, err) == (0, "")
    assert "2 batches" in out
    reading = left.json("stats")
    assert isinstance(reading, dict)
    assert reading["depth"] == 2
    assert reading["ledger"]["events"] == {
        "accepted": 3,
        "delivered": 0,
        "queued": 2,
        "in_flight": 0,
        "dead_lettered": 1,
        "dropped": {},
    }


def test_list_shows_what_waits_the_last_stored_first(left: Left) -> None:
    listed = left.json("list")
    assert isinstance(listed, list)
    assert [batch["batch_id"] for batch in listed] == left.waiting
    assert {batch["kind"] for batch in listed} == {"events"}
    page = left.json("list", "--limit", "1", "--offset", "1")
    assert isinstance(page, list)
    assert [batch["batch_id"] for batch in page] == left.waiting[1:]


def test_dead_letters_are_listed_with_the_answer(left: Left) -> None:
    (letter,) = left.json("dead-letters", "list")  # type: ignore[misc]
    assert (letter["batch_id"], letter["status"], letter["reason"]) == (left.dead, 422, "no such field")


def test_a_dead_letter_is_shown_with_its_rows(left: Left) -> None:
    code, out, err = left.command("dead-letters", "show", left.dead)
    assert (code, err) == (0, "")
    assert "no such field" in out
    shown = left.json("dead-letters", "show", left.dead)
    assert isinstance(shown, dict)
    assert [row["reason"] for row in shown["content"]] == ["number 0"]


def test_an_unknown_dead_letter_is_one_line(left: Left) -> None:
    for command in (["show", "nothing"], ["replay", "nothing"], ["purge", "nothing", "--yes"]):
        code, out, err = left.command("dead-letters", *command)
        assert (code, out) == (1, "")
        assert err.startswith("Error: There is no dead letter 'nothing'")
        assert err.count("\n") == 1


def test_replayed_and_drained_everything_arrives(left: Left, backend: RunningBackend) -> None:
    before = len(backend.events("custom_check"))
    assert left.json("dead-letters", "replay", "--all") == {"replayed": 1}
    code, out, err = left.command("drain", "--timeout", "60")
    assert code == 0, err
    assert "3 rows delivered, 0 rows became dead letters" in out
    assert len(backend.events("custom_check")) == before + 3
    assert left.json("list") == []


def test_a_purge_asks_first(left: Left) -> None:
    code, _, err = left.command("dead-letters", "purge", "--all")
    assert code == 1
    assert "for good?" in err
    assert err.endswith("Error: Nothing was dropped: answer y, or give --yes.\n")
    assert left.json("dead-letters", "purge", "--all", "--yes") == {"purged": 1}
    assert left.json("dead-letters", "list") == []


def test_a_refused_key_ends_a_drain_with_what_is_wrong(left: Left) -> None:
    variables = {**left.variables, "OTEL_EXPORTER_GUARD_API_KEY": "wrong"}
    result = run(left.home, "queue", "drain", **variables)
    assert result.returncode == 1
    assert result.stdout == "0 rows delivered, 0 rows became dead letters\n"
    assert "still waiting: 401" in result.stderr
    assert result.stderr.count("\n") == 1


def test_rows_that_become_dead_letters_are_no_success(tmp_path: Path) -> None:
    with running_backend(project=PROJECT) as backend:
        url = f"sqlite://{tmp_path}/guard.db"
        left = leave(tmp_path, url, settings_of(backend), Envelope(base64.urlsafe_b64encode(bytes(32)).decode()))
        code, out, err = left.command("drain", "--timeout", "60")
    assert (code, out) == (1, "0 rows delivered, 2 rows became dead letters\n")
    assert "queue dead-letters list says why" in err
    assert err.count("\n") == 1


def test_a_queue_that_is_busy_is_asked_again(tmp_path: Path) -> None:
    queue = MemoryQueue(QueueOptions("busy"))
    store = OpenedStore(queue, "memory", "busy", GuardConfig())
    answers = iter([QueueUnavailable("it is busy"), None])

    def ask(asked: DeliveryQueue) -> int:
        if answer := next(answers):
            raise answer
        return asked.stats().depth

    assert store.ask(ask) == 0


def test_what_a_backend_answers_commands_no_terminal() -> None:
    assert one_line("no\x1b[31m such\nfield\x07") == "no [31m such field "


def test_the_only_queue_is_found_without_the_services_settings(tmp_path: Path, backend: RunningBackend) -> None:
    gone = leave(tmp_path, "", settings_of(backend))
    result = run(tmp_path, "queue", "list", "--json")
    assert [batch["batch_id"] for batch in json.loads(result.stdout)] == gone.waiting


def test_of_several_queues_one_has_to_be_chosen(tmp_path: Path, backend: RunningBackend) -> None:
    settings = settings_of(backend)
    leave(tmp_path, "", settings)
    other = leave(tmp_path, "", {**settings, "OTEL_EXPORTER_GUARD_PROJECT_ID": "other"})
    result = run(tmp_path, "queue", "list")
    assert result.returncode == 1
    assert "choose one with --destination" in result.stderr
    destination = GuardConfig.resolve(other.variables).destination
    chosen = run(tmp_path, "queue", "list", "--json", "--destination", destination)
    assert [batch["batch_id"] for batch in json.loads(chosen.stdout)] == other.waiting


def test_the_file_of_a_queue_is_as_good_as_its_url(tmp_path: Path, backend: RunningBackend) -> None:
    left = leave(tmp_path, f"sqlite://{tmp_path}/queues/guard.db", settings_of(backend))
    (path,) = (tmp_path / "queues").glob("*.db")
    result = run(tmp_path, "queue", "list", "--json", "--url", f"sqlite://{path}")
    assert [batch["batch_id"] for batch in json.loads(result.stdout)] == left.waiting


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("redis://127.0.0.1:1/0", "can't be used"),
        ("sqlite:///nowhere/at/all.db", "There is no queue at"),
        ("memory://", "A memory queue lives in its process"),
        ("nonsense", "it must be a URL"),
        ("ftp://host/queue", "unknown scheme"),
    ],
)
def test_a_wrong_url_is_one_line(tmp_path: Path, url: str, what: str) -> None:
    result = run(tmp_path, "queue", "stats", "--url", url)
    assert (result.returncode, result.stdout) == (1, "")
    assert what in result.stderr
    assert result.stderr.count("\n") == 1


def test_looking_creates_nothing(tmp_path: Path) -> None:
    run(tmp_path, "queue", "stats")
    assert list(tmp_path.rglob("*.db")) == []
