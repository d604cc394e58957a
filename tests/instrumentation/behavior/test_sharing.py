"""Processes that see a part of an attack each find it together, tell it once, and go on alone without their store."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.redis import RedisServer, eventually, redis_cluster, redis_sentinel
from support.redis import redis_server as running_redis
from support.traffic import answered
from traffic.scene import CommonMemory

from opentelemetry_guard.instrumentation.behavior import sharing as sharing_module
from opentelemetry_guard.instrumentation.behavior.analyzer import BehaviorAnalyzer
from opentelemetry_guard.instrumentation.behavior.histories import MOST, Histories
from opentelemetry_guard.instrumentation.behavior.redis_store import RedisStore
from opentelemetry_guard.instrumentation.behavior.sharing import Sharing
from opentelemetry_guard.instrumentation.behavior.sqlite_store import SqliteStore
from opentelemetry_guard.instrumentation.behavior.store_place import place
from opentelemetry_guard.instrumentation.behavior.stores import Claim, Claimed, Row, Store, Total
from opentelemetry_guard.instrumentation.behavior.usual import Usual
from opentelemetry_guard.queue.redis.trouble import GRANTS
from opentelemetry_guard.settings import in_use, once
from opentelemetry_guard.settings.delivery import GuardConfig

ATTACKER = "203.0.113.200"
NAMES = (b"a" * 16, b"b" * 16)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def stores(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> Iterator[Callable[[], Store]]:
    """Makes stores of one place: each is that of another process."""
    made: list[Store] = []

    def make() -> Store:
        url = f"{redis_server.url}#{tmp_path.name}"
        made.append(RedisStore(url) if request.param == "redis" else SqliteStore(tmp_path / "behavior.db"))
        return made[-1]

    yield make
    for store in made:
        store.close()


class Process(Sharing):
    """A process that shares when it is told to."""

    def __init__(self, store: Store, rules: Mapping[str, object] | None = None) -> None:
        self.told: list[dict[str, Any]] = []
        analyzer = BehaviorAnalyzer(rules)
        super().__init__(
            analyzer, lambda: "here", lambda fields: self.told.append(dict(fields)), open_store=lambda _: store
        )

    def _start(self) -> None:
        pass

    def fail(self, at: float, number: int = 1, address: str = ATTACKER, agent: str = "one") -> None:
        for _ in range(number):
            request = answered(address, "/login", 401, method="POST", user_agent=agent)
            self.told += [dict(fields) for fields in self.observe(request, at)]


def row(
    name: bytes = NAMES[0], counts: tuple[int, ...] = (1, 2), bits: int = 0b101, before: bytes | None = None
) -> Row:
    return Row(name, before, counts, bits, 320, 600)


def claim(name: str, pause: float = 60, *, key: bytes = NAMES[0], bit: int = 0b10, explains: int = 0b11) -> Claim:
    return Claim(key, name, pause, 60, bit, explains)


def test_a_store_adds_counts_and_joins_bits(stores: Callable[[], Store]) -> None:
    one, other = stores(), stores()
    assert one.exchange([row()]) == [(Total((1, 2), 0b101), None)]
    high = 1 << 319 | 1 << 8 | 0b10
    ((total, _),) = other.exchange([row(counts=(10, 0), bits=high)])
    assert total == Total((11, 2), high | 0b101)
    (first, second) = one.exchange([row(NAMES[1], (0, 1), 0, before=NAMES[0]), row(counts=(0, 0), bits=0)])
    assert first == (Total((0, 1), 0), Total((11, 2), high | 0b101))
    assert second[0] == total
    assert one.exchange([row(b"c" * 16, before=b"d" * 16)])[0][1] == Total((0, 0), 0)


def test_of_all_processes_one_is_granted_a_claim_and_the_incident_keeps_its_name(stores: Callable[[], Store]) -> None:
    one, other = stores(), stores()
    assert one.claim([claim("first", 0.05)]) == [Claimed("first", 0)]
    assert other.claim([claim("second"), claim("apart", key=NAMES[1])])[1] == Claimed("apart", 0)
    granted: list[Claimed | None] = []
    eventually(lambda: granted.extend(other.claim([claim("second")])) or any(granted))
    assert granted[-1] == Claimed("first", 1)
    assert one.claim([claim("third")]) == [None]


def test_what_was_told_does_not_explain_is_granted_at_once_and_to_one_process(stores: Callable[[], Store]) -> None:
    one, other = stores(), stores()
    assert one.claim([claim("first")]) == [Claimed("first", 0)]
    assert other.claim([claim("less", bit=0b1, explains=0b1)]) == [None]
    more = claim("more", bit=0b1000, explains=0b1111)
    assert other.claim([more, more]) == [Claimed("first", 1), None]
    assert one.claim([more, claim("between", bit=0b100, explains=0b111)]) == [None, None]
    assert one.claim([claim("apart", bit=0b10000, explains=0b10000)]) == [Claimed("first", 2)]


def test_the_secret_is_one_and_what_is_usual_is_kept(stores: Callable[[], Store]) -> None:
    one, other = stores(), stores()
    assert one.secret() == other.secret()
    assert len(one.secret()) == 16
    assert other.kept() is None
    one.keep(b"usual")
    assert other.kept() == b"usual"


def test_an_attack_that_no_process_sees_as_a_whole_is_found_and_told_once(stores: Callable[[], Store]) -> None:
    processes = [Process(stores()) for _ in range(4)]
    for second in range(6):
        for process in processes:
            process.fail(second, 1)
        for process in processes:
            process.step(second)
    told = [event for process in processes for event in process.told]
    assert [event["metadata"]["pattern"] for event in told] == ["brute_force"]
    assert told[0]["metadata"]["count"] >= 10


def test_what_is_more_specific_is_told_at_once_by_one_of_all_processes(stores: Callable[[], Store]) -> None:
    processes = [Process(stores(), {"scanning": {"paths": 10}}) for _ in range(2)]
    for second in range(16):
        for number, process in enumerate(processes):
            if second < 8:
                path = f"/{'abcdefghijklmnop'[2 * second + number]}"
                process.told += [dict(each) for each in process.observe(answered(ATTACKER, path, 404), second)]
            else:
                process.fail(second)
            process.step(second)
    told = [event["metadata"] for process in processes for event in process.told]
    assert [each["detector"] for each in told] == ["scanning", "failed_logins"]
    assert len({each["incident"] for each in told}) == 1
    assert [each.get("update", 0) for each in told] == [0, 1]


def test_what_was_counted_before_and_elsewhere_is_known_to_who_sees_the_client_late(
    stores: Callable[[], Store],
) -> None:
    one, other = Process(stores()), Process(stores())
    one.fail(0, 9)
    one.step(0)
    other.fail(310, 1)
    other.step(310)
    other.fail(311, 2)
    other.step(312)
    assert [event["metadata"]["pattern"] for event in one.told + other.told] == ["brute_force"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(1, 4)), max_size=40), st.integers(1, 10))
def test_together_they_know_what_one_would_know(steps: list[tuple[int, int, int]], every: int) -> None:
    rules = {"failed_logins": {"failures": 1_000}, "campaign": None, "error_ratio": None}
    store = CommonMemory()
    processes, alone = [Process(store, rules) for _ in range(4)], BehaviorAnalyzer(rules)
    for position, (which, client, number) in enumerate(steps):
        address = f"192.0.2.{client}"
        processes[which].fail(0.0, number, address)
        for _ in range(number):
            alone.observe(answered(address, "/login", 401, method="POST", user_agent="one"), 0.0)
        if position % every == 0:
            processes[which].step(position)
    for round_ in range(2):
        for process in processes:
            for client in {client for _, client, _ in steps}:
                process._touched |= {
                    (number, bytes((192, 0, 2, client))): None for number in range(len(process.analyzer.windows()))
                }
            process.step(1_000 + round_)
    for client in {client for _, client, _ in steps}:
        key = bytes((192, 0, 2, client))
        whole = alone._addresses._logins
        assert whole is not None
        row_alone = whole.table.peek(key)
        for process in processes:
            logins = process.analyzer._addresses._logins
            assert logins is not None
            if (its := logins.table.peek(key)) is not None and row_alone is not None:
                assert logins._failures.value(its) == whole._failures.value(row_alone)
                assert logins._heads.value(its) == whole._heads.value(row_alone)


def test_without_its_store_a_process_tells_by_itself_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    once._said.clear()

    class Away(CommonMemory):
        is_away = False

        def secret(self) -> bytes:
            self.fails()
            return super().secret()

        def exchange(self, rows: Any) -> Any:
            self.fails()
            return super().exchange(rows)

        def fails(self) -> None:
            if self.is_away:
                raise ConnectionError("refused")

    store = Away()
    process = Process(store)
    process.fail(0, 1)
    process.step(0)
    assert process._healthy
    store.is_away = True
    process.fail(1, 9)
    assert process.told == [], "it waits for its claim"
    with caplog.at_level(logging.WARNING):
        process.step(1)
        process.step(10)
    assert [event["metadata"]["pattern"] for event in process.told] == ["brute_force"]
    assert len([record for record in caplog.records if "store" in record.getMessage()]) == 1
    process.fail(30, 12, address="203.0.113.201")
    assert len(process.told) == 2, "told at once"
    store.is_away = False
    process.step(100)
    process.fail(101, 12, address="203.0.113.202")
    assert len(process.told) == 2
    process.step(102)
    assert len(process.told) == 3


def test_what_waits_for_its_claim_is_told_at_the_end() -> None:
    process = Process(CommonMemory())
    process.step(0)
    process.fail(1, 12)
    assert process.told == []
    process.close()
    assert len(process.told) == 1


def test_what_is_usual_survives_a_restart(stores: Callable[[], Store]) -> None:
    before = Process(stores())
    before.step(0)
    for minute in range(60):
        for client in range(30):
            before.observe(answered(f"192.0.2.{client}"), minute * 60.0)
    before.close()
    after = Process(stores())
    after.step(0)
    assert after.analyzer.learned() == before.analyzer.learned()
    assert after.analyzer.learned()["clients"][2] > 1_000


_LIFE = """
import sys
from pathlib import Path
from support.traffic import answered
from opentelemetry_guard.instrumentation.behavior.analyzer import BehaviorAnalyzer
from opentelemetry_guard.instrumentation.behavior.sharing import Sharing

class Stepped(Sharing):
    def _start(self): pass

told = []
sharing = Stepped(BehaviorAnalyzer(epoch=float(sys.argv[2])), lambda: sys.argv[1], told.append)
sharing.step(0)
for minute in range(int(sys.argv[3])):
    for number in range(300):
        sharing.observe(answered("203.0.113.9", f"/{number}"), minute * 60 + number / 5)
    for client in range(4):
        sharing.observe(answered(f"192.0.2.{client}"), minute * 60 + 59.0)
    sharing.step(minute * 60 + 59.5)
start = int(sys.argv[3]) * 60
for address in ("203.0.113.9", sys.argv[4]):
    for number in range(1_250):
        sharing.observe(answered(address, f"/{number}"), start + number / 100)
    sharing.step(start + 20)
    start += 60
sharing.close()
print(*sorted({event["ip_address"] for event in told}))
"""


def test_a_client_that_was_always_busy_is_known_after_a_restart(tmp_path: Path) -> None:
    """Real processes, one after the other: what the first has learned of a client, the second goes by."""
    url = f"sqlite://{tmp_path / 'behavior.db'}"
    tests = Path(__file__).parents[2]

    def live(epoch: float, minutes: int, stranger: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", _LIFE, url, str(epoch), str(minutes), stranger],
            env={**os.environ, "PYTHONPATH": str(tests)},
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        return done.stdout.strip()

    assert live(1_800_000_000.0, 70, "203.0.113.10") == "203.0.113.10", "the stranger alone"
    assert live(1_800_100_000.0, 0, "203.0.113.11") == "203.0.113.11", "and so it is after a restart"
    (tmp_path / "behavior.db").unlink()
    assert live(1_800_200_000.0, 0, "203.0.113.12") == "", "nothing is known of anybody"


def test_only_the_busiest_clients_are_kept_and_a_bounded_number_of_them() -> None:
    histories = Histories()
    histories.note(b"x", Usual(500.0, 1.0), 60)
    assert histories.kept() == {}, "nobody has said under what names"
    histories.name = bytes.hex
    for number in range(2 * MOST):
        histories.note(number.to_bytes(4, "big"), Usual(500.0, 1.0), 60)
    assert len(histories.kept()) == MOST
    assert histories.recall((2 * MOST - 1).to_bytes(4, "big")) == (500.0, 1.0, 60)
    assert histories.recall(b"\0\0\0\0") is None
    again = Histories()
    again.name = bytes.hex
    again.note((2 * MOST - 1).to_bytes(4, "big"), Usual(700.0, 1.0), 61)
    again.take(histories.kept().items())
    assert again.recall((2 * MOST - 1).to_bytes(4, "big")) == (700.0, 1.0, 61), "what is newer"
    assert len(again.kept()) == MOST


@pytest.mark.parametrize("kept", [b"[]", b'{"clients": 3}', b'{"clients": [-1, "x", 2], "other": [1, 2, 3]}'])
def test_what_was_kept_and_makes_no_sense_is_left_out(kept: bytes) -> None:
    store = CommonMemory()
    store.keep(kept)
    process = Process(store)
    process.step(0)
    assert process._healthy
    assert process.analyzer.learned() == {}


def test_no_address_user_or_path_is_in_the_store(tmp_path: Path) -> None:
    process = Process(SqliteStore(tmp_path / "behavior.db"))
    process.step(0)
    for number in range(30):
        request = answered(ATTACKER, f"/hidden-{number}", 404, user="person-of-interest")
        process.observe(request, float(number))
        process.fail(float(number))
    process.step(31)
    process.close()
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert len(written) > 4_096
    for text in (ATTACKER.encode(), bytes(map(int, ATTACKER.split("."))), b"person-of-interest", b"hidden"):
        assert text not in written


@pytest.mark.skipif(os.name != "posix", reason="no modes on this system")
def test_the_file_is_its_owners_alone_and_another_ones_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new" / "behavior.db"
    store = SqliteStore(path)
    store.secret()
    assert (path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    store.close()
    path.chmod(0o666)
    with pytest.raises(PermissionError, match="chmod"):
        SqliteStore(path).secret()
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="behavior"):
        SqliteStore(path).secret()


@pytest.mark.slow
@pytest.mark.parametrize("running", [redis_sentinel, redis_cluster], ids=["sentinel", "cluster"])
def test_the_forms_of_redis_that_queues_take_are_stores(running: Any) -> None:
    with running() as servers:
        store = RedisStore(servers.url)
        assert store.exchange([row(), row(NAMES[1])])[1] == (Total((1, 2), 0b101), None)
        assert store.claim([claim("first")]) == [Claimed("first", 0)]
        store.close()


def test_two_threads_that_take_what_was_found_tell_each_finding_once() -> None:
    """Whoever ends the process takes it while the thread does."""
    process = Process(CommonMemory())
    process.step(0)
    process.fail(1, 12)
    waiting = len(process._pending)
    assert waiting

    class Contended(deque[Any]):
        def __len__(self) -> int:
            return super().__len__() + 1  # as it was before the other thread took one

    process._pending = Contended(process._pending)
    process.close()
    assert len(process.told) == waiting


def test_what_a_queues_user_is_granted_is_enough(redis_server: RedisServer) -> None:
    client = redis_server.client()
    client.execute_command("ACL", "SETUSER", "shop", "on", ">right", *GRANTS.split())
    store = RedisStore(redis_server.url.replace("redis://", "redis://shop:right@") + "#granted")
    assert len(store.secret()) == 16
    assert store.exchange([row(before=NAMES[1])]) == [(Total((1, 2), 0b101), Total((0, 0), 0))]
    assert store.claim([claim("first")]) == [Claimed("first", 0)]
    store.keep(b"usual")
    assert store.kept() == b"usual"
    store.close()


def test_everything_in_redis_runs_out_but_the_secret(redis_server: RedisServer) -> None:
    process = Process(RedisStore(f"{redis_server.url}#expiry"))
    process.step(0)
    process.fail(1, 12)
    process.step(2)
    process.close()
    client = redis_server.client()
    names = {bytes(name) for name in client.keys("{guard:behavior:expiry:*")}  # type: ignore[union-attr]
    lasting = {name for name in names if client.ttl(name) == -1}
    assert len(names) > 5
    assert lasting == {b"{guard:behavior:expiry:secret"}


def test_a_step_is_one_pipeline_of_a_bounded_number_of_rows() -> None:
    class Counting(CommonMemory):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        def exchange(self, rows: Any) -> Any:
            self.sizes.append(len(rows))
            return super().exchange(rows)

    store = Counting()
    process = Process(store)
    process.step(0)
    for number in range(2_000):
        process.fail(1, 1, f"10.0.{number >> 8}.{number & 255}")
    process.step(2)
    assert store.sizes == [sharing_module.MAX_ROWS]
    for second in range(3, 60):
        process.step(second)
    assert max(store.sizes) == sharing_module.MAX_ROWS
    assert not process._touched


def test_a_flood_of_clients_does_not_fill_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing_module, "MAX_PUBLISHED", 300)
    store = CommonMemory()
    process = Process(store)
    process.step(0)
    for second in range(1, 40):
        for number in range(100):
            process.fail(second, 1, f"10.{second}.{number}.1")
        process.step(second)
    assert len(store.rows) <= 300 + sharing_module.MAX_ROWS
    process.fail(20_000, 1, "192.0.2.1")
    process.step(20_000)
    fresh = {key for _, key in process._published}
    assert bytes((192, 0, 2, 1)) in fresh, "what has run out makes room"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_shares_for_itself_and_tells_nothing_of_its_parents(tmp_path: Path) -> None:
    process = Process(SqliteStore(tmp_path / "behavior.db"))
    process._open = lambda _: SqliteStore(tmp_path / "behavior.db")
    process.step(0)
    process.fail(1, 12)
    pid = os.fork()
    if pid == 0:
        process.step(2)
        nothing = not process.told
        process.fail(3, 12, address="203.0.113.201")
        process.step(4)
        os._exit(7 if nothing and len(process.told) == 1 and process._healthy else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    process.step(5)
    assert len(process.told) == 1
    process.close()


def test_a_thread_shares_by_itself_and_ends_with_the_process(tmp_path: Path) -> None:
    told: list[Mapping[str, object]] = []
    url = f"sqlite://{tmp_path / 'behavior.db'}"
    sharing = Sharing(BehaviorAnalyzer(), lambda: url, told.append)
    sharing.observe(answered(ATTACKER), 0.0)
    thread = sharing._thread
    assert thread is not None
    eventually(lambda: sharing._healthy)
    for number in range(12):
        sharing.observe(answered(ATTACKER, "/login", 401, method="POST"), float(number))
    eventually(lambda: told)
    sharing.close()
    eventually(lambda: thread not in threading.enumerate())
    assert len(told) == 1


@pytest.mark.parametrize(
    ("queue", "found"),
    [
        ("redis://h/0", "redis://h/0#{destination}"),
        ("sqlite:///var/lib/app/guard.db", "sqlite:///var/lib/app/guard-behavior-{destination}.db"),
        (None, "sqlite:///state/opentelemetry-guard/behavior-{destination}.db"),
        ("memory://", None),
    ],
)
def test_the_store_is_beside_the_queue(queue: str | None, found: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    config = GuardConfig(queue_url=queue)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.setattr(in_use, "_sources", [lambda: [config]])
    assert place(None) == (None if found is None else found.format(destination=config.destination))
    assert place("redis://other/0") == "redis://other/0"
    monkeypatch.setattr(in_use, "_sources", [])
    assert place(None) is None


_WORKER = """
import sys, time
from support.traffic import answered
from opentelemetry_guard.instrumentation.behavior.analyzer import BehaviorAnalyzer
from opentelemetry_guard.instrumentation.behavior.sharing import Sharing

analyzer = BehaviorAnalyzer({"failed_logins": {"failures": 40}, "campaign": None}, epoch=time.time())
sharing = Sharing(analyzer, lambda: sys.argv[1], lambda fields: print(fields["metadata"]["pattern"], flush=True))
request = answered("203.0.113.200", "/login", 401, method="POST")
assert not sharing.observe(answered("203.0.113.1"), time.monotonic())
while not sharing._healthy:
    time.sleep(0.05)
print("ready", flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        assert not sharing.observe(request, time.monotonic())
sharing.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_four_workers_of_a_host_find_one_attack_and_tell_it_once(
    kind: str, tmp_path: Path, redis_server: RedisServer
) -> None:
    url = f"{redis_server.url}#workers" if kind == "redis" else f"sqlite://{tmp_path / 'behavior.db'}"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for _ in range(4)
    ]
    lines: list[str] = []
    readers = [threading.Thread(target=lambda out=worker.stdout: lines.extend(out)) for worker in workers]
    for reader in readers:
        reader.start()
    try:
        eventually(lambda: lines.count("ready\n") == 4, 60)

        def told() -> list[str]:
            return [line for line in lines if line != "ready\n"]

        def attack() -> list[str]:
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("1\n")
                worker.stdin.flush()
            return told()

        eventually(attack, 60, every=0.2)
    finally:
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
        codes = [worker.wait(60) for worker in workers]
        for reader in readers:
            reader.join()
    assert codes == [0] * 4
    assert told() == ["brute_force\n"]
