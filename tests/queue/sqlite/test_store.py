"""The queue in an SQLite file."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.queue.base import (
    DROPPED_CORRUPT,
    DROPPED_STORE_REMOVED,
    DeadLetter,
    DeliveryQueue,
    QueueOptions,
    QueueUnavailable,
)
from opentelemetry_guard.queue.conformance import QueueConformance, make_batch
from opentelemetry_guard.queue.sqlite import file as database_file
from opentelemetry_guard.queue.sqlite.damage import DAMAGED_FILES_KEPT
from opentelemetry_guard.queue.sqlite.disk import JOURNAL_BYTES, RESERVE_BYTES, space_needed
from opentelemetry_guard.queue.sqlite.moves import CLAIM_BATCHES
from opentelemetry_guard.queue.sqlite.schema import SCHEMA_VERSION
from opentelemetry_guard.queue.sqlite.store import SqliteQueue

ROOT = Path(__file__).parents[3]
OPTIONS = QueueOptions(destination="ab12")
posix = pytest.mark.skipif(os.name != "posix", reason="file modes and forks are POSIX")


class TestSqliteQueue(QueueConformance):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> Iterator[None]:
        self.directory = tmp_path
        self.opened: list[SqliteQueue] = []
        yield
        for queue in self.opened:
            queue.close()

    def _open(self, path: Path, options: QueueOptions) -> SqliteQueue:
        self.opened.append(SqliteQueue(path, options))
        return self.opened[-1]

    def make_queue(self, options: QueueOptions) -> DeliveryQueue:
        return self._open(self.directory / f"{len(self.opened)}.db", options)

    def make_sibling(self, queue: DeliveryQueue, options: QueueOptions) -> DeliveryQueue:
        assert isinstance(queue, SqliteQueue)
        return self._open(queue.path, options)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[SqliteQueue]:
    opened = SqliteQueue(tmp_path / "state" / "guard.db", OPTIONS)
    yield opened
    opened.close()


def sql(path: Path, *statements: str) -> None:
    """Change a database from outside, while this process has no connection to it."""
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


# Opening


def test_nothing_is_opened_before_the_first_call(queue: SqliteQueue) -> None:
    assert not queue.exists()
    queue.release()
    queue.close()
    assert not queue.path.parent.exists()


@posix
def test_file_and_directory_are_private_whatever_the_umask(queue: SqliteQueue) -> None:
    mask = os.umask(0)
    try:
        queue.append(make_batch("a"))
    finally:
        os.umask(mask)
    assert stat.S_IMODE(queue.path.parent.stat().st_mode) == 0o700
    for file in queue.path.parent.iterdir():
        assert stat.S_IMODE(os.lstat(file).st_mode) == 0o600, file


@posix
def test_a_symbolic_link_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "victim"
    target.write_text("mine")
    (tmp_path / "guard.db").symlink_to(target)
    with pytest.raises(QueueUnavailable, match="symbolic link"):
        SqliteQueue(tmp_path / "guard.db", OPTIONS).append(make_batch("a"))
    assert target.read_text() == "mine"


@posix
def test_a_dangling_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "guard.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(QueueUnavailable, match="symbolic link"):
        SqliteQueue(tmp_path / "guard.db", OPTIONS).append(make_batch("a"))
    assert not (tmp_path / "elsewhere").exists()


@posix
def test_a_symbolic_link_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(QueueUnavailable, match="symbolic link"):
        SqliteQueue(tmp_path / "link" / "guard.db", OPTIONS).append(make_batch("a"))


@posix
def test_what_others_may_write_to_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(0o770)
    with pytest.raises(QueueUnavailable, match=r"mode 0770.*chmod go-w"):
        SqliteQueue(directory / "guard.db", OPTIONS).append(make_batch("a"))
    directory.chmod(0o755)
    (directory / "guard.db").touch()
    (directory / "guard.db").chmod(0o666)
    with pytest.raises(QueueUnavailable, match="mode 0666"):
        SqliteQueue(directory / "guard.db", OPTIONS).append(make_batch("a"))


@posix
def test_a_file_that_others_may_read_becomes_private_with_its_log(queue: SqliteQueue) -> None:
    queue.append(make_batch("a"))
    files = sorted(queue.path.parent.iterdir())
    assert len(files) == 3
    for file in files:
        file.chmod(0o644)
    sibling = SqliteQueue(queue.path, OPTIONS)
    assert sibling.stats().depth == 1
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 3
    sibling.close()


@posix
def test_a_private_directory_that_others_may_read_is_made_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    queue = SqliteQueue(tmp_path / "guard.db", OPTIONS, private_directory=True)
    queue.append(make_batch("a"))
    queue.close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@posix
def test_an_explicit_directory_that_others_may_read_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    queue = SqliteQueue(tmp_path / "guard.db", OPTIONS)
    queue.append(make_batch("a"))
    queue.close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@posix
def test_a_foreign_owner_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(QueueUnavailable, match=f"belongs to user id {owner}"):
        SqliteQueue(tmp_path / "guard.db", OPTIONS).append(make_batch("a"))


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(QueueUnavailable, match=r"guard\.db"):
        SqliteQueue(tmp_path / "file" / "below" / "guard.db", OPTIONS).append(make_batch("a"))


def test_a_newer_schema_is_refused(queue: SqliteQueue) -> None:
    queue.append(make_batch("a"))
    queue.close()
    sql(queue.path, "PRAGMA user_version = 99")
    with pytest.raises(QueueUnavailable, match=r"schema version 99.*upgrade"):
        queue.append(make_batch("b"))
    sql(queue.path, f"PRAGMA user_version = {SCHEMA_VERSION}")
    assert queue.stats().depth == 1


def test_what_an_opening_that_failed_has_not_done_is_done_by_the_next(
    queue: SqliteQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bool] = []

    def once_locked(connection: sqlite3.Connection) -> None:
        opened.append(connection.in_transaction)
        if len(opened) == 1:
            raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(database_file, "after_boot", once_locked)
    with pytest.raises(QueueUnavailable, match="locked"):
        queue.append(make_batch("a"))
    for name in "ab":
        queue.append(make_batch(name))
    assert opened == [True, True]
    assert queue.stats().depth == 2


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    sql(path, "CREATE TABLE users (name TEXT)")
    path.chmod(0o644)
    before, mode = path.read_bytes(), path.stat().st_mode
    with pytest.raises(QueueUnavailable, match="something else"):
        SqliteQueue(path, OPTIONS).append(make_batch("a"))
    assert (path.read_bytes(), path.stat().st_mode) == (before, mode)


# Owners


def test_appending_keeps_the_lease_by_the_clock(tmp_path: Path) -> None:
    now = 1000.0
    owner = SqliteQueue(tmp_path / "guard.db", OPTIONS, clock=lambda: now)
    sibling = SqliteQueue(tmp_path / "guard.db", OPTIONS)
    owner.append(make_batch("a"))
    assert sibling.lease("events", now + OPTIONS.lease_seconds) == []
    now = 1010.0
    owner.append(make_batch("b"))
    assert sibling.lease("events", now + OPTIONS.lease_seconds) == []
    assert len(sibling.lease("events", now + OPTIONS.lease_seconds + 0.1)) == 1
    owner.close()
    sibling.close()


def test_a_claim_is_bounded_and_the_next_one_goes_on(tmp_path: Path) -> None:
    dead = SqliteQueue(tmp_path / "guard.db", OPTIONS)
    heir = SqliteQueue(tmp_path / "guard.db", OPTIONS)
    count = CLAIM_BATCHES + 10
    for number in range(count):
        dead.append(make_batch(str(number)))
    dead.close()
    assert len(heir.lease("events", time.time(), max_batches=1000)) == CLAIM_BATCHES
    assert len(heir.lease("events", time.time(), max_batches=1000)) == 10
    assert heir.stats().ledger["events"].in_flight == count
    heir.close()


def test_every_step_of_a_lease_goes_through_an_index(queue: SqliteQueue) -> None:
    queue.append(make_batch("a"))
    traced: list[str] = []

    def plans(connection: sqlite3.Connection) -> list[str]:
        return [
            str(row[3])
            for statement in traced
            if statement.startswith(("SELECT", "UPDATE", "DELETE"))
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        ]

    queue._database.run(lambda connection: connection.set_trace_callback(traced.append))
    assert len(queue.lease("events", time.time() + 1)) == 1
    assert queue.lease("events", time.time() + 1) == []
    assert queue.defer("a", 0.0)
    assert len(queue.lease("events", time.time() + 1, oldest=True)) == 1
    assert queue.defer("a", 0.0)
    queue.stats()
    queue._database.run(lambda connection: connection.set_trace_callback(None))
    found = queue._database.run(plans)
    assert any("batches_by_owner" in plan for plan in found)
    assert any("batches_by_due" in plan for plan in found)
    assert [
        plan for plan in found if plan.startswith("SCAN") and not plan.endswith(("owners", "ledger", "CONSTANT ROW"))
    ] == []
    assert not any("TEMP B-TREE" in plan for plan in found)


def test_each_move_is_one_statement_and_holds_the_file_no_longer(queue: SqliteQueue) -> None:
    queue.append(make_batch("first"))
    traced: list[str] = []
    moves: list[tuple[str, Callable[[], object]]] = [
        ("INSERT", lambda: queue.append(make_batch("a", rows=2, created_at=9.0))),
        ("UPDATE", lambda: queue.lease("events", time.time())),
        ("UPDATE", lambda: queue.defer("a", 0.0)),
        ("UPDATE", lambda: queue.acknowledge("first")),
        ("INSERT", lambda: queue.replace(["a"], [make_batch("b")], [DeadLetter(make_batch("c"), 400, "no", 1.0)])),
    ]
    for number, (verb, move) in enumerate(moves):
        if number == 3:
            assert [lease.batch.batch_id for lease in queue.lease("events", time.time() + 1, oldest=True)] == ["first"]
            assert [lease.batch.batch_id for lease in queue.lease("events", time.time() + 1)] == ["a"]
        traced.clear()
        queue._database.run(lambda connection: connection.set_trace_callback(traced.append))
        assert move() is not False
        queue._database.run(lambda connection: connection.set_trace_callback(None))
        # What triggers do is traced as the statement that fires them, or as a comment
        writes = [text for text in dict.fromkeys(traced) if not text.startswith(("--", "SELECT", "PRAGMA"))]
        # The bound of dead letters is looked after by itself
        writes = [text for text in writes if "WHERE state = 'dead'" not in text]
        assert [text.split()[0] for text in writes] == [verb], traced
    assert queue.stats().ledger["events"].balanced


def test_a_call_that_is_under_way_keeps_no_other_waiting(queue: SqliteQueue) -> None:
    queue.append(make_batch("a"))
    with queue._database._slot(None) as slot:
        assert slot.connection is not None
        reading = slot.connection.execute("SELECT batch_id FROM batches")
        queue.append(make_batch("b"))
        assert queue.lease("events", time.time())
        reading.close()
    assert queue.stats().depth == 2


WORKER = """
import sys, time
from opentelemetry_guard.queue.base import Batch, QueueOptions
from opentelemetry_guard.queue.sqlite.store import SqliteQueue
queue = SqliteQueue(sys.argv[1], QueueOptions(destination="ab12"))
for number in range(20):
    queue.append(Batch(f"{sys.argv[2]}-{number}", "events", 1, b"x" * 100, created_at=float(number)))
taken = queue.lease("events", time.time(), 5)
print(*(lease.batch.batch_id for lease in taken), flush=True)
sys.stdin.readline()
for lease in taken:
    assert queue.acknowledge(lease.batch.batch_id)
queue.close()
"""


def worker(path: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path), name],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@posix
def test_a_killed_process_is_inherited_and_a_living_one_is_not(queue: SqliteQueue) -> None:
    victim, survivor = worker(queue.path, "victim"), worker(queue.path, "survivor")
    try:
        assert victim.stdout is not None
        assert survivor.stdout is not None
        in_flight = victim.stdout.readline().split()
        assert len(in_flight) == len(survivor.stdout.readline().split()) == 5
        victim.send_signal(signal.SIGKILL)
        victim.wait(60)
        assert queue.lease("events", time.time()) == [], "the lease has not run out yet"
        # The survivor's heartbeat, written by hand: it holds beyond the victim's
        queue._database.run(
            lambda connection: connection.execute(
                "UPDATE owners SET lease_until = lease_until + 1000 WHERE owner IN "
                "(SELECT owner FROM batches WHERE batch_id LIKE 'survivor-%')"
            )
        )
        later = time.time() + OPTIONS.lease_seconds + 1
        leases = {}
        while found := queue.lease("events", later):
            leases.update({lease.batch.batch_id: lease.attempts for lease in found})
        assert set(leases) == {f"victim-{number}" for number in range(20)}
        assert {name for name, attempts in leases.items() if attempts} == set(in_flight)
        survivor.communicate("go on\n", timeout=60)
        assert survivor.returncode == 0
        ledger = queue.stats().ledger["events"]
        assert ledger.balanced
        assert (ledger.accepted, ledger.delivered, ledger.in_flight, ledger.queued) == (40, 5, 20, 15)
    finally:
        for process in (victim, survivor):
            process.kill()
            process.communicate()


@posix
def test_processes_write_at_once_without_losing_a_row(queue: SqliteQueue) -> None:
    queue.append(make_batch("mine"))
    workers = [worker(queue.path, str(number)) for number in range(3)]
    for process in workers:
        process.communicate("go on\n", timeout=60)
    assert [process.returncode for process in workers] == [0, 0, 0]
    stats = queue.stats()
    assert stats.ledger["events"].balanced
    assert (stats.ledger["events"].accepted, stats.ledger["events"].delivered) == (61, 15)


# Forks


def in_child(work: object) -> int:
    """Run `work` in a forked child and return its exit status: 0 when it returned True."""
    assert callable(work)
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() is True else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@posix
def test_a_child_is_an_owner_of_its_own_and_both_go_on(queue: SqliteQueue) -> None:
    queue.append(make_batch("parent"))
    assert queue.lease("events", time.time())

    def child() -> bool:
        if queue.acknowledge("parent") or queue.lease("events", time.time()):
            return False
        queue.append(make_batch("child"))
        return [lease.batch.batch_id for lease in queue.lease("events", time.time())] == ["child"]

    assert in_child(child) == 0
    assert queue.acknowledge("parent")
    assert queue.lease("events", time.time()) == []
    ledger = queue.stats().ledger["events"]
    assert (ledger.accepted, ledger.delivered, ledger.in_flight) == (2, 1, 1)


@posix
def test_rows_of_a_child_survive_when_the_parent_closes_first(queue: SqliteQueue) -> None:
    queue.append(make_batch("parent"))
    to_child, to_parent = os.pipe(), os.pipe()

    def child() -> bool:
        queue.append(make_batch("first"))
        os.write(to_parent[1], b".")
        os.read(to_child[0], 1)
        queue.append(make_batch("second"))
        return True

    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if child() else 1)
        finally:
            os._exit(2)
    os.read(to_parent[0], 1)
    queue.append(make_batch("more"))
    queue.close()
    os.write(to_child[1], b".")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert queue.stats().depth == 4
    for descriptor in (*to_child, *to_parent):
        os.close(descriptor)


@posix
def test_a_fork_in_the_middle_of_a_call_leaves_the_child_connections_of_its_own(queue: SqliteQueue) -> None:
    queue.append(make_batch("parent"))
    with queue._database._slot(None) as inherited:
        status = in_child(lambda: queue.append(make_batch("child")) or inherited.connection is not None)
    assert status == 0
    assert queue.stats().depth == 2


# Faults


def corrupt(path: Path, batch_id: str, assignment: str) -> None:
    table = "bodies" if "body" in assignment else "batches"
    sql(path, f"UPDATE {table} SET {assignment} WHERE seq = (SELECT seq FROM batches WHERE batch_id = '{batch_id}')")


@pytest.mark.parametrize(
    "assignment",
    ["body = x'00'", "body = 'text'", "created_at = created_at + 1000", "content_encoding = 'gzip'", "encrypted = 1"],
)
def test_a_corrupt_entry_is_dropped_reported_once_and_the_next_is_taken(
    queue: SqliteQueue, caplog: pytest.LogCaptureFixture, assignment: str
) -> None:
    for number in range(3):
        queue.append(make_batch(f"b{number}", rows=2, created_at=float(number)))
    queue.close()
    corrupt(queue.path, "b2", assignment)
    with caplog.at_level(logging.ERROR):
        assert [lease.batch.batch_id for lease in queue.lease("events", time.time())] == ["b1"]
        assert [lease.batch.batch_id for lease in queue.lease("events", time.time())] == ["b0"]
        assert queue.lease("events", time.time()) == []
    ledger = queue.stats().ledger["events"]
    assert ledger.balanced
    assert ledger.dropped == {DROPPED_CORRUPT: 2}
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "b2" in caplog.text


@pytest.mark.parametrize("damage", ["header", "pages"])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(
    queue: SqliteQueue, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    for number in range(50):
        queue.append(make_batch(str(number), size=3000))
    queue.close()
    content = bytearray(queue.path.read_bytes())
    start = 0 if damage == "header" else 4096
    content[start : start + 40_000] = b"\xa5" * 40_000
    queue.path.write_bytes(content)
    with caplog.at_level(logging.ERROR):
        queue.append(make_batch("fresh"))
    assert [lease.batch.batch_id for lease in queue.lease("events", time.time())] == ["fresh"]
    assert queue.stats().set_aside == 1
    queue.close()
    assert SqliteQueue(queue.path, OPTIONS).stats().set_aside == 1, "the next process knows it too"
    (aside,) = queue.path.parent.glob("guard.db.damaged-*")
    assert aside.read_bytes() == bytes(content)
    assert len(caplog.records) == 1
    assert str(aside) in caplog.text


def test_the_newest_damaged_files_are_kept_and_all_are_counted(queue: SqliteQueue) -> None:
    queue.path.parent.mkdir(mode=0o700)
    for number in range(DAMAGED_FILES_KEPT + 2):
        queue.close()
        queue.path.write_bytes(b"damage %d" % number * 1000)
        queue.append(make_batch(str(number)))
    kept = sorted(file.read_bytes()[:8] for file in queue.path.parent.glob("guard.db.damaged-*"))
    assert kept == [b"damage %d" % number for number in range(2, DAMAGED_FILES_KEPT + 2)]
    assert queue.stats().set_aside == DAMAGED_FILES_KEPT + 2
    assert queue.stats().depth == 1


def test_workers_that_meet_a_damaged_file_agree_on_one_new_one(tmp_path: Path) -> None:
    path = tmp_path / "guard.db"
    path.write_bytes(b"no database at all" * 1000)
    first, second = SqliteQueue(path, OPTIONS), SqliteQueue(path, OPTIONS)
    first.append(make_batch("a"))
    second.append(make_batch("b"))
    assert first.stats().depth == second.stats().depth == 2
    assert first.stats().set_aside == second.stats().set_aside == 1
    first.close()
    second.close()


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_what_was_in_a_removed_file_is_told_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, replaced: bool
) -> None:
    owner, sibling = (SqliteQueue(tmp_path / "guard.db", OPTIONS) for _ in range(2))
    for name in ("a", "b", "c"):
        owner.append(make_batch(name, rows=5))
    sibling.append(make_batch("d", rows=2))
    assert owner.lease("events", time.time())
    for file in tmp_path.glob("guard.db*"):
        file.unlink()
    if replaced:
        other = SqliteQueue(tmp_path / "guard.db", OPTIONS)
        other.append(make_batch("new"))
        other.close()
    for queue in (owner, sibling):
        assert queue.exists()
        queue.renew(time.time())
        queue.append(make_batch(str(uuid4())))
    ledger = owner.stats().ledger["events"]
    assert ledger.dropped == {DROPPED_STORE_REMOVED: 17}
    assert ledger.balanced
    told = [record for record in caplog.records if "removed or replaced" in record.message]
    assert len(told) == 2  # one of each owner's connections
    assert str(tmp_path / "guard.db") in told[0].message
    owner.close()
    sibling.close()


def test_a_removed_file_is_begun_anew_instead_of_written_into_the_void(queue: SqliteQueue) -> None:
    queue.append(make_batch("a"))
    queue.path.unlink()
    queue.append(make_batch("b"))
    assert queue.path.exists()
    assert [lease.batch.batch_id for lease in queue.lease("events", time.time())] == ["b"]


def test_a_full_disk_stores_and_counts_nothing(queue: SqliteQueue) -> None:
    queue.append(make_batch("a"))
    queue._database.run(lambda connection: connection.execute("PRAGMA max_page_count = 30"))
    before = queue.stats()
    with pytest.raises(QueueUnavailable, match=r"guard\.db.*full"):
        queue.append(make_batch("b", size=200_000))
    assert queue.stats() == before
    assert [lease.batch.batch_id for lease in queue.lease("events", time.time())] == ["a"]


def fill(queue: SqliteQueue, prefix: str) -> int:
    """Append until the disk takes no more, and return how many batches it took."""
    for number in range(2000):
        try:
            queue.append(make_batch(f"{prefix}{number}", size=3000, created_at=float(number)))
        except QueueUnavailable as error:
            assert "full" in str(error)  # noqa: PT017 (the loop is for the number)
            return number
    raise AssertionError("a disk of 2 MiB took 6 MB")


def fill_with_something_else(path: Path) -> None:
    """Write a file until nothing is left of the disk."""
    with path.open("wb", buffering=0) as other, contextlib.suppress(OSError):
        while True:
            other.write(b"x" * 4096)
    assert shutil.disk_usage(path.parent).free == 0


def drain(queue: SqliteQueue, batches: int = 10) -> int:
    """Lease and acknowledge until nothing is left, and return how many batches there were."""
    count = 0
    while leases := queue.lease("events", time.time() + 1000, max_batches=batches):
        for lease in leases:
            assert queue.acknowledge(lease.batch.batch_id)
            count += 1
    return count


def test_a_disk_that_the_queue_filled_is_drained_and_filled_again(small_disk: Path) -> None:
    queue = SqliteQueue(small_disk / "guard.db", OPTIONS)
    for turn in range(3):
        stored = fill(queue, f"{turn}-")
        assert stored > 20
        assert drain(queue) == stored
    ledger = queue.stats().ledger["events"]
    assert ledger.balanced
    assert ledger.accepted == ledger.delivered
    queue.close()


KILLED_ON_A_FULL_DISK = """
import os, sys
from opentelemetry_guard.queue.base import Batch, QueueOptions, QueueUnavailable
from opentelemetry_guard.queue.sqlite.store import SqliteQueue
queue = SqliteQueue(sys.argv[1], QueueOptions(destination="ab12"))
number = 0
try:
    while True:
        queue.append(Batch(str(number), "events", 1, b"x" * 3000, created_at=float(number)))
        number += 1
except QueueUnavailable:
    print(number, flush=True)
    os._exit(9)
"""


def test_a_new_process_drains_a_disk_that_a_killed_one_filled(small_disk: Path) -> None:
    path = small_disk / "guard.db"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_ON_A_FULL_DISK, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert killed.returncode == 9, killed.stderr
    queue = SqliteQueue(path, OPTIONS)
    assert drain(queue) == int(killed.stdout)
    queue.close()


@pytest.mark.parametrize("stored", [5, 60, 100])
def test_a_disk_that_something_else_filled_is_drained(small_disk: Path, stored: int) -> None:
    queue = SqliteQueue(small_disk / "guard.db", OPTIONS)
    for number in range(stored):
        queue.append(make_batch(str(number), size=3000, created_at=float(number)))
    fill_with_something_else(small_disk / "other")
    with pytest.raises(QueueUnavailable, match="full"):
        queue.append(make_batch("more", size=3000))
    assert drain(queue, batches=1) == stored
    queue.close()


@given(
    size=st.integers(0, 10**8),
    database=st.integers(0, 10**8),
    free_inside=st.integers(0, 10**8),
    file=st.integers(0, 10**8),
    journal=st.integers(0, 10**8),
)
def test_the_room_for_a_batch_includes_what_emptying_the_file_takes(
    size: int, database: int, free_inside: int, file: int, journal: int
) -> None:
    needed = space_needed(size, database=database, free_inside=free_inside, file=file, journal=journal)
    assert needed >= RESERVE_BYTES + size + max(0, database - file) + max(0, JOURNAL_BYTES - journal)
    assert needed >= space_needed(size, database=database, free_inside=free_inside + 1, file=file, journal=journal)


def test_a_locked_file_is_unavailable_in_bounded_time_and_then_again_available(queue: SqliteQueue) -> None:
    queue.append(make_batch("a"))
    blocker = sqlite3.connect(queue.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(QueueUnavailable, match="locked"):
        queue.append(make_batch("b"))
    assert queue.stats().depth == 1, "reading goes on"
    blocker.execute("ROLLBACK")
    blocker.close()
    queue.append(make_batch("b"))
    assert queue.stats().depth == 2


def test_a_failing_operation_leaves_nothing_behind(queue: SqliteQueue) -> None:
    queue.append(make_batch("a", rows=2))
    queue.lease("events", time.time())
    queue.append(make_batch("other"))
    before = queue.stats()
    with pytest.raises(ValueError, match="stored already"):
        queue.replace(["a"], [make_batch("new"), make_batch("other")])
    assert queue.stats() == before
    assert queue.acknowledge("a")


# Space


def test_space_is_given_back_when_a_backlog_has_gone(tmp_path: Path) -> None:
    queue = SqliteQueue(tmp_path / "guard.db", OPTIONS)
    for number in range(100):
        queue.append(make_batch(str(number), size=60_000))
    while leases := queue.lease("events", time.time(), max_batches=20):
        for lease in leases:
            assert queue.acknowledge(lease.batch.batch_id)
    queue.close()
    assert queue.path.stat().st_size < 2_000_000
    assert sorted(file.name for file in tmp_path.iterdir()) == ["guard.db"]


def test_overflow_keeps_the_file_small(tmp_path: Path) -> None:
    queue = SqliteQueue(tmp_path / "guard.db", replace(OPTIONS, max_bytes=500_000))
    for number in range(100):
        queue.append(make_batch(str(number), size=50_000))
    assert queue.stats().bytes == 500_000
    queue.close()
    assert queue.path.stat().st_size < 1_000_000
