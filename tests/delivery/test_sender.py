"""The sender, between a queue in memory and a transport that answers from a script."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.delivery import dispatch
from opentelemetry_guard.delivery import route as route_module
from opentelemetry_guard.delivery import sender as sender_module
from opentelemetry_guard.delivery.backoff import RetryPolicy
from opentelemetry_guard.delivery.body_limit import BodyLimit
from opentelemetry_guard.delivery.breaker import BreakerPolicy, BreakerState
from opentelemetry_guard.delivery.dispatch import Equipment
from opentelemetry_guard.delivery.encoder import Encoder
from opentelemetry_guard.delivery.outcome import Outcome, RulesAnswer, Verdict
from opentelemetry_guard.delivery.route import Route
from opentelemetry_guard.delivery.sender import Sender
from opentelemetry_guard.models import AgentStatus
from opentelemetry_guard.queue.base import KINDS, Batch, DeliveryQueue, Kind, Lease, QueueOptions, QueueUnavailable
from opentelemetry_guard.queue.memory import MemoryQueue

WATCHDOG = 60.0
ACCEPTED = Outcome(Verdict.ACCEPTED, 200)
RETRY = Outcome(Verdict.RETRY, 500, "broken")
PARTIAL = Outcome(Verdict.PARTIAL, 200, '{"success": false}')
TOO_LARGE = Outcome(Verdict.TOO_LARGE, 413, "too large")
REFUSED = Outcome(Verdict.REFUSED, 422, "bad row")
UNKNOWN_KEY = Outcome(Verdict.MISCONFIGURED, 401, "unknown key")
ENCODER = Encoder("p", "none")
RETRY_POLICY = RetryPolicy()
NO_PAUSE = BreakerPolicy(failures=10**9, failure_rate=2.0, max_recovery=0.0)

Answer = Callable[[Batch], Outcome]


@dataclass(frozen=True)
class Sent:
    batch: Batch
    outcome: Outcome
    timeout: float

    @property
    def names(self) -> list[Any]:
        return names(self.batch)


class Script:
    """A transport that answers in turn, and accepts everything once the script has ended."""

    def __init__(self, *answers: Outcome | Answer, always: Outcome | Answer = ACCEPTED) -> None:
        self._answers = list(answers)
        self._always = always
        self.sent: list[Sent] = []
        self.closed = 0

    def send(self, batch: Batch, timeout: float = float("inf")) -> Outcome:
        answer = self._answers.pop(0) if self._answers else self._always
        outcome = answer if isinstance(answer, Outcome) else answer(batch)
        self.sent.append(Sent(batch, outcome, timeout))
        return outcome

    def fetch_rules(self, etag: str | None, timeout: float = float("inf")) -> RulesAnswer:
        raise AssertionError("a sender asks for no rules")

    def send_status(self, status: AgentStatus, timeout: float = float("inf")) -> Outcome:
        raise AssertionError("a sender reports no status")

    def close(self) -> None:
        self.closed += 1

    @property
    def delivered(self) -> list[Any]:
        return [name for sent in self.sent if sent.outcome.verdict is Verdict.ACCEPTED for name in sent.names]


def names(batch: Batch) -> list[Any]:
    return [row["name"] for row in ENCODER.rows(batch)]


def new_queue() -> MemoryQueue:
    return MemoryQueue(QueueOptions("sender"))


def append(queue: DeliveryQueue, *rows: object, kind: Kind = "events", created_at: float | None = None) -> Batch:
    [batch] = ENCODER.encode(kind, [{"name": row} for row in rows], created_at=created_at)
    queue.append(batch)
    return batch


def append_attempted(queue: DeliveryQueue, *rows: object, kind: Kind = "events", created_at: float) -> Batch:
    """Append a batch that was sent before, so that it comes alone."""
    batch = append(queue, *rows, kind=kind, created_at=created_at)
    [lease] = queue.lease(kind, time.time())
    queue.defer(lease.batch.batch_id, 0.0)
    return batch


@contextmanager
def sending(
    script: Script,
    *queues: DeliveryQueue,
    pause: float = 0.0,
    policy: BreakerPolicy = NO_PAUSE,
    retry: RetryPolicy = RETRY_POLICY,
    known: bool = True,
    limit: BodyLimit | None = None,
) -> Iterator[Sender]:
    routes = {kind: Route(kind, policy) for kind in KINDS}
    equipment = Equipment(queues, script, ENCODER, routes, lease_seconds=20.0, retry=retry, is_known=lambda: known)
    sender = Sender("test", equipment)
    with (
        patch.object(ENCODER, "limit", limit or BodyLimit()),
        patch.object(route_module, "REFUSED_PAUSE", 0.0),
        patch.object(RetryPolicy, "delay", lambda policy, failures: pause),
        patch.object(sender_module, "UNAVAILABLE_SECONDS", 0.11),
    ):
        try:
            yield sender
        finally:
            sender.stop(WATCHDOG)


def balanced(queue: DeliveryQueue) -> bool:
    return all(ledger.balanced for ledger in queue.stats().ledger.values())


def test_an_accepted_batch_is_delivered_and_gone() -> None:
    queue, script = new_queue(), Script()
    append(queue, "a", "b")
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert script.delivered == ["a", "b"]
    assert queue.stats().depth == 0
    assert queue.stats().ledger["events"].delivered == 2


def test_a_retry_sends_the_same_bytes_under_the_same_batch_id() -> None:
    queue, script = new_queue(), Script(RETRY, RETRY)
    batch = append(queue, "a")
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert [(sent.batch.batch_id, sent.batch.body) for sent in script.sent] == [(batch.batch_id, batch.body)] * 3
    assert queue.stats().ledger["events"].delivered == 1


def test_a_batch_that_is_too_large_is_halved() -> None:
    def small_only(batch: Batch) -> Outcome:
        return ACCEPTED if batch.rows <= 2 else TOO_LARGE

    queue, script = new_queue(), Script(always=small_only)
    append(queue, *range(8))
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert sorted(script.delivered) == list(range(8))
    assert sorted(sent.batch.rows for sent in script.sent) == [2, 2, 2, 2, 4, 4, 8]
    assert len({sent.batch.batch_id for sent in script.sent}) == len(script.sent)


def test_a_single_row_that_is_too_large_is_a_dead_letter() -> None:
    queue = new_queue()
    append(queue, "a")
    with sending(Script(TOO_LARGE), queue) as sender:
        sender.flush(WATCHDOG)
    [letter] = queue.dead_letters()
    assert (letter.status, letter.reason, letter.batch.rows) == (413, "too large", 1)


@given(st.sets(st.integers(0, 39), max_size=5))
def test_exactly_the_refused_rows_become_dead_letters(bad: set[int]) -> None:
    def strict(batch: Batch) -> Outcome:
        return REFUSED if bad.intersection(names(batch)) else ACCEPTED

    queue, script = new_queue(), Script(always=strict)
    append(queue, *range(40))
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert sorted(script.delivered) == sorted(set(range(40)) - bad)
    letters = queue.dead_letters()
    assert sorted(name for letter in letters for name in names(letter.batch)) == sorted(bad)
    assert all((letter.status, letter.reason, letter.batch.rows) == (422, "bad row", 1) for letter in letters)
    assert balanced(queue)


def test_before_anything_was_accepted_refusals_hold_the_route_and_nothing_is_bisected() -> None:
    queue, script = new_queue(), Script(always=REFUSED)
    append_attempted(queue, *range(8), created_at=0.0)
    append_attempted(queue, "single", created_at=1.0)
    with sending(script, queue, known=False) as sender:
        sender.flush(WATCHDOG)
        sender.flush(WATCHDOG, hurry=True)
    assert len(script.sent) == 1
    assert not queue.dead_letters()
    assert queue.stats().ledger["events"].queued == 9


def test_once_something_was_accepted_refused_rows_are_found() -> None:
    def strict(batch: Batch) -> Outcome:
        return REFUSED if 3 in names(batch) else ACCEPTED

    queue, script = new_queue(), Script(ACCEPTED, always=strict)
    append_attempted(queue, *range(8), created_at=0.0)
    append_attempted(queue, "good", created_at=1.0)
    with sending(script, queue, known=False) as sender:
        sender.flush(WATCHDOG)
    assert sorted(map(str, script.delivered)) == ["0", "1", "2", "4", "5", "6", "7", "good"]
    assert [names(letter.batch) for letter in queue.dead_letters()] == [[3]]


def test_what_an_earlier_process_has_delivered_from_the_queue_counts_too() -> None:
    queue = new_queue()
    append(queue, "a")
    with sending(Script(), queue, known=False) as sender:
        sender.flush(WATCHDOG)
    append(queue, "b")
    with sending(Script(always=REFUSED), queue, known=False) as sender:
        sender.flush(WATCHDOG)
    assert [names(letter.batch) for letter in queue.dead_letters()] == [["b"]]


def test_a_merge_that_was_cut_in_two_stops_at_the_first_answer_that_holds_the_route() -> None:
    queue, script = new_queue(), Script(always=UNKNOWN_KEY)
    for name in range(4):
        append(queue, name)
    with sending(script, queue, limit=BodyLimit(1)) as sender:
        sender.flush(WATCHDOG)
    assert len(script.sent) == 1
    assert queue.stats().ledger["events"].queued == 4


def test_requests_go_two_at_once_where_the_backend_takes_them_and_one_by_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "QUICK_SECONDS", 0.0)
    queue, both = new_queue(), threading.Barrier(2)
    for name in range(5):
        append(queue, name, "x" * 100)

    def meet(batch: Batch) -> Outcome:
        both.wait(WATCHDOG)
        return ACCEPTED

    script = Script(ACCEPTED, meet, meet, meet, meet)
    with sending(script, queue, limit=BodyLimit(400)) as sender:
        sender.flush(WATCHDOG)
    assert sorted(map(str, script.delivered)) == sorted([*map(str, range(5)), *["x" * 100] * 5])
    assert balanced(queue)


def half_full(queue: DeliveryQueue, number: int) -> BodyLimit:
    """Leave so many batches that are too large to be joined, and return the limit under which they are half full."""
    sizes = [len(append(queue, str(each), "x" * 1000).body) for each in range(number)]
    return BodyLimit(int(max(sizes) * 1.6))


def test_what_a_flush_has_left_goes_one_by_one_to_a_backend_that_answers_quickly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "QUICK_SECONDS", float("inf"))
    monkeypatch.setattr(dispatch, "FRESH_SECONDS", float("inf"))
    queue, threads = new_queue(), list[str]()

    def noted(batch: Batch) -> Outcome:
        threads.append(threading.current_thread().name)
        return ACCEPTED

    limit = half_full(queue, 5)
    with sending(Script(always=noted), queue, limit=limit) as sender:
        sender.flush(WATCHDOG)
    assert len(threads) == 5
    assert dispatch.THREAD not in threads
    assert queue.stats().ledger["events"].delivered == 10


@pytest.mark.parametrize("bound", ["QUICK_SECONDS", "FRESH_SECONDS"])
def test_it_goes_two_at_once_where_answers_take_their_time_or_it_has_waited(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    for name in ("QUICK_SECONDS", "FRESH_SECONDS"):
        monkeypatch.setattr(dispatch, name, 0.0 if name == bound else float("inf"))
    queue, both = new_queue(), threading.Barrier(2)

    def meet(batch: Batch) -> Outcome:
        both.wait(WATCHDOG)
        return ACCEPTED

    limit = half_full(queue, 5)
    with sending(Script(ACCEPTED, meet, meet, meet, meet), queue, limit=limit) as sender:
        sender.flush(WATCHDOG)
    assert queue.stats().ledger["events"].delivered == 10


def test_full_batches_are_sent_as_they_are_stored_and_only_small_ones_are_joined() -> None:
    queue, script = new_queue(), Script()
    full = [append(queue, *range(600), created_at=float(number)) for number in range(4)]
    for number in range(10):
        append(queue, number, created_at=10.0 + number)
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    sent = {sent.batch.batch_id: sent.batch.body for sent in script.sent}
    assert all(sent[batch.batch_id] == batch.body for batch in full)
    assert len(sent) == 5


def test_a_partial_failure_is_tried_a_few_times_and_never_counted_as_delivered() -> None:
    queue, script = new_queue(), Script(always=PARTIAL)
    batch = append(queue, "a", "b")
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert [sent.batch.batch_id for sent in script.sent] == [batch.batch_id] * RETRY_POLICY.attempts
    [letter] = queue.dead_letters()
    assert (letter.status, letter.batch.rows) == (200, 2)
    ledger = queue.stats().ledger["events"]
    assert (ledger.delivered, ledger.dead_lettered) == (0, 2)


def test_failures_in_between_do_not_count_as_partial_ones() -> None:
    queue, script = new_queue(), Script(PARTIAL, RETRY, RETRY, RETRY, RETRY, RETRY, PARTIAL, PARTIAL, PARTIAL)
    append(queue, "a")
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert script.delivered == ["a"]


def test_a_partial_failure_waits_as_long_as_the_server_asks() -> None:
    queue, script = new_queue(), Script(Outcome(Verdict.PARTIAL, 200, "", retry_after=100.0))
    append(queue, "a")
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert len(script.sent) == 1
    assert not queue.lease("events", time.time() + 90)
    assert queue.lease("events", time.time() + 110)


@pytest.mark.parametrize("status", [0, 301, 401, 403])
def test_a_refused_key_holds_everything_and_asks_once(status: int) -> None:
    queue, script = new_queue(), Script(always=Outcome(Verdict.MISCONFIGURED, status, "no"))
    for name in range(3):
        append_attempted(queue, name, created_at=float(name))
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
        sender.flush(WATCHDOG)
    assert len(script.sent) == 1
    assert queue.stats().ledger["events"].queued == 3


def test_delivery_resumes_by_itself_when_the_key_works() -> None:
    queue, script = new_queue(), Script(UNKNOWN_KEY, UNKNOWN_KEY)
    append(queue, "a")
    with patch.object(route_module, "HOLD_SECONDS", 0.0), sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert script.delivered == ["a"]


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), MemoryError(), ValueError("x")])
def test_a_transport_that_raises_whatever_fails_once_and_the_thread_lives(error: BaseException) -> None:
    def broken(batch: Batch) -> Outcome:
        raise error

    queue, script = new_queue(), Script(broken)
    append(queue, "a")
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
        thread = sender._thread
        assert script.delivered == ["a"]
        assert sender._thread is thread
        assert not sender.has_died
        assert sender._equipment.routes["events"].breaker.state is BreakerState.CLOSED


def test_an_exception_raised_into_the_thread_while_it_waits_ends_nothing() -> None:
    queue, script = new_queue(), Script()
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
        thread = sender._thread
        assert thread is not None
        assert thread.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
        append(queue, "a")
        sender.flush(WATCHDOG)
        assert script.delivered == ["a"]
        assert sender._thread is thread


def test_a_thread_that_has_died_is_told_and_started_again() -> None:
    queue, script = new_queue(), Script()
    with sending(script, queue) as sender:
        dead = threading.Thread(target=lambda: None)
        dead.start()
        dead.join()
        sender._thread = dead
        assert sender.has_died
        append(queue, "a")
        sender.flush(WATCHDOG)
        assert not sender.has_died
        assert script.delivered == ["a"]


def test_small_batches_never_sent_are_merged_into_one_request() -> None:
    queue, script = new_queue(), Script()
    for name in range(50):
        append(queue, name, created_at=float(name))
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert len(script.sent) == 1
    assert sorted(script.delivered) == list(range(50))
    assert script.sent[0].batch.created_at == 0.0
    assert queue.stats().ledger["events"].delivered == 50


def test_a_merged_batch_is_stored_before_it_is_sent() -> None:
    queue = new_queue()
    for name in range(3):
        append(queue, name)
    depths = []

    def look(batch: Batch) -> Outcome:
        depths.append(queue.stats().depth)
        return ACCEPTED

    with sending(Script(always=look), queue) as sender:
        sender.flush(WATCHDOG)
    assert depths == [1]


def test_a_batch_that_cannot_be_read_is_left_out_of_a_merge_and_sent_as_it_is() -> None:
    queue, script = new_queue(), Script()
    append(queue, "a")
    queue.append(Batch("strange", "events", 1, b"not ours"))
    append(queue, "b")
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert sorted(sent.batch.rows for sent in script.sent) == [1, 2]
    assert [sent.batch.body for sent in script.sent if sent.batch.batch_id == "strange"] == [b"not ours"]
    assert queue.stats().ledger["events"].delivered == 3


def test_an_unreadable_batch_that_should_be_split_is_a_dead_letter() -> None:
    queue = new_queue()
    queue.append(Batch("strange", "events", 2, b"not ours"))
    with sending(Script(REFUSED), queue) as sender:
        sender.flush(WATCHDOG)
    [letter] = queue.dead_letters()
    assert letter.batch.batch_id == "strange"
    assert letter.reason.startswith("bad row")


def test_events_go_before_metrics() -> None:
    queue, script = new_queue(), Script()
    append(queue, "metric", kind="metrics")
    append(queue, "event", kind="events")
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert [sent.batch.kind for sent in script.sent] == ["events", "metrics"]


def test_fresh_batches_go_before_the_backlog_which_has_every_fourth_turn() -> None:
    queue, script = new_queue(), Script()
    for name in range(9):
        append_attempted(queue, name, created_at=float(name))
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert script.delivered == [8, 7, 6, 0, 5, 4, 3, 1, 2]


def test_halves_of_an_old_batch_do_not_overtake_fresh_ones() -> None:
    queue, script = new_queue(), Script(ACCEPTED, TOO_LARGE)
    append_attempted(queue, 1, 2, created_at=1.0)
    append_attempted(queue, 3, created_at=3.0)
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert all(sent.batch.created_at == 1.0 for sent in script.sent[1:])
    assert sorted(script.delivered) == [1, 2, 3]


def test_a_batch_that_the_backend_chokes_on_holds_up_nobody() -> None:
    def choke(batch: Batch) -> Outcome:
        return RETRY if names(batch)[0].startswith("poison") else ACCEPTED

    queue, script = new_queue(), Script(always=choke)
    for number, name in enumerate(["a", "b", "poison", "c", "d", "poison too"]):
        append_attempted(queue, name, created_at=float(number))
    with sending(script, queue, pause=3600.0) as sender:
        sender.flush(WATCHDOG)
    assert sorted(script.delivered) == ["a", "b", "c", "d"]
    assert queue.stats().ledger["events"].queued == 2


def test_an_open_breaker_sends_nothing_and_a_hurried_flush_probes_once() -> None:
    queue, script = new_queue(), Script(always=RETRY)
    for name in range(5):
        append_attempted(queue, name, created_at=float(name))
    policy = BreakerPolicy(failures=1, recovery=3600.0, max_recovery=3600.0)
    with sending(script, queue, policy=policy) as sender:
        sender.flush(WATCHDOG)
        assert len(script.sent) == 1
        sender.flush(WATCHDOG)
        assert len(script.sent) == 1
        sender.flush(WATCHDOG, hurry=True)
        assert len(script.sent) == 2
        assert sender._equipment.routes["events"].breaker.state is BreakerState.OPEN


def test_deferred_batches_are_sent_in_their_time_without_anybody_asking() -> None:
    done = threading.Event()

    def last(batch: Batch) -> Outcome:
        done.set()
        return ACCEPTED

    queue, script = new_queue(), Script(RETRY, RETRY, ACCEPTED, last)
    append_attempted(queue, "a", created_at=1.0)
    append_attempted(queue, "b", created_at=2.0)
    pauses = iter([0.01, 0.05])
    with sending(script, queue) as sender, patch.object(RetryPolicy, "delay", lambda policy, n: next(pauses)):
        sender.wake()
        assert done.wait(WATCHDOG)


def test_a_flush_waits_out_the_limiters_pace() -> None:
    queue, script = new_queue(), Script()
    for name in range(40):
        append_attempted(queue, name, created_at=float(name))
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert len(script.delivered) == 40


def test_a_batch_that_arrives_while_another_is_sent_is_not_forgotten() -> None:
    queue, done = new_queue(), threading.Event()

    def append_another(batch: Batch) -> Outcome:
        append(queue, "b")
        sender.wake()
        return ACCEPTED

    def last(batch: Batch) -> Outcome:
        done.set()
        return ACCEPTED

    append(queue, "a")
    with sending(Script(append_another, last), queue) as sender:
        sender.wake()
        assert done.wait(WATCHDOG)


def test_a_flush_that_is_asked_for_during_a_turn_covers_what_was_appended_before_it() -> None:
    queue, began, go_on = new_queue(), threading.Event(), threading.Event()

    def hold(batch: Batch) -> Outcome:
        began.set()
        assert go_on.wait(WATCHDOG)
        return ACCEPTED

    script = Script(hold)
    append(queue, "a")
    with sending(script, queue) as sender:
        sender.wake()
        assert began.wait(WATCHDOG)
        append(queue, "b")
        flushing = threading.Thread(target=sender.flush, args=(WATCHDOG,))
        flushing.start()
        go_on.set()
        flushing.join()
        assert sorted(script.delivered) == ["a", "b"]


def test_stopping_does_not_wait_for_a_request_that_hangs() -> None:
    queue, began, go_on = new_queue(), threading.Event(), threading.Event()

    def hold(batch: Batch) -> Outcome:
        began.set()
        assert go_on.wait(WATCHDOG)
        return ACCEPTED

    append(queue, "a")
    with sending(Script(hold), queue) as sender:
        sender.wake()
        assert began.wait(WATCHDOG)
        sender.stop(0.0)
        sender.flush(WATCHDOG)  # nothing is sent any more, so there is nothing to wait for
        assert queue.stats().ledger["events"].in_flight == 1
        go_on.set()
    assert queue.stats().ledger["events"].delivered == 1


def test_where_no_thread_can_be_started_a_flush_sends_on_its_callers_thread() -> None:
    queue, script = new_queue(), Script(RETRY)
    append(queue, "a")
    with (
        patch.object(threading.Thread, "start", side_effect=RuntimeError("can't create new thread")),
        sending(script, queue) as sender,
    ):
        sender.wake()
        assert not script.sent
        sender.flush(WATCHDOG)
    assert script.delivered == ["a"]
    assert all(0.0 < sent.timeout <= WATCHDOG for sent in script.sent), "a request must not outlast the flush"


class Failing(MemoryQueue):
    """A store of a user's own that fails in the calls named by `failures`, each so many times."""

    def __init__(self, error: Exception, **failures: int) -> None:
        super().__init__(QueueOptions("failing"))
        self.error = error
        self.failures = failures

    def _maybe_fail(self, call: str) -> None:
        if self.failures.get(call, 0) > 0:
            self.failures[call] -= 1
            raise self.error

    def lease(self, *args: Any) -> list[Lease]:
        self._maybe_fail("lease")
        return super().lease(*args)

    def exists(self) -> bool:
        self._maybe_fail("exists")
        return super().exists()

    def acknowledge(self, *args: Any) -> bool:
        self._maybe_fail("acknowledge")
        return super().acknowledge(*args)

    def defer(self, *args: Any) -> bool:
        self._maybe_fail("defer")
        return super().defer(*args)

    def replace(self, *args: Any) -> bool:
        self._maybe_fail("replace")
        return super().replace(*args)


def flush_until(sender: Sender, done: Callable[[], bool]) -> None:
    for _ in range(100):
        sender.flush(WATCHDOG)
        if done():
            return
    raise AssertionError("100 flushes were not enough")


@pytest.mark.parametrize("error", [QueueUnavailable("locked"), RuntimeError("a defect"), OSError("full")])
@pytest.mark.parametrize("call", ["exists", "lease", "acknowledge", "defer", "replace"])
def test_a_store_that_fails_for_a_while_loses_nothing_and_makes_no_duplicate(call: str, error: Exception) -> None:
    queue, script = Failing(error, **{call: 3}), Script(RETRY, TOO_LARGE)
    append(queue, "a", "b")
    append(queue, "c", "d")
    with sending(script, queue) as sender:
        flush_until(sender, lambda: queue.stats().depth == 0)
    assert sorted(script.delivered) == ["a", "b", "c", "d"]
    assert not queue.failures[call]
    assert balanced(queue)


def test_a_store_that_fails_does_not_keep_another_from_being_emptied() -> None:
    broken, other, script = Failing(QueueUnavailable("disk"), lease=10**9), new_queue(), Script()
    append(broken, "waits")
    append(other, "goes")
    with sending(script, broken, other) as sender:
        sender.flush(WATCHDOG)
    assert script.delivered == ["goes"]


def test_a_failing_store_is_said_once_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    queue = Failing(QueueUnavailable("locked"), lease=5)
    append(queue, "a")
    with sending(Script(), queue) as sender:
        flush_until(sender, lambda: queue.stats().depth == 0)
    assert len([record for record in caplog.records if "locked" in record.message]) == 1


def test_a_defect_of_the_transport_neither_ends_the_thread_nor_keeps_the_batch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def defect(batch: Batch) -> Outcome:
        raise ZeroDivisionError

    queue, script = new_queue(), Script(defect)
    append(queue, "a")
    with sending(script, queue, pause=-1.0) as sender:
        flush_until(sender, lambda: queue.stats().depth == 0)
    assert script.delivered == ["a"]
    assert "the transport raised ZeroDivisionError" in caplog.text


def test_an_instrument_that_raises_makes_no_duplicate() -> None:
    def defect(*args: object) -> None:
        raise ZeroDivisionError

    queue, script = new_queue(), Script()
    append(queue, "a")
    with sending(script, queue) as sender:
        sender._equipment.routes["events"]._observe = defect
        sender.flush(WATCHDOG)
    assert script.delivered == ["a"]
    assert queue.stats().ledger["events"].delivered == 1


class Stolen(MemoryQueue):
    """A store whose batch was claimed by another owner in the middle of a merge."""

    stolen = 1

    def replace(self, batch_ids: Sequence[str], *args: Any) -> bool:
        if self.stolen:
            self.stolen -= 1
            self.acknowledge(batch_ids[0])
        return super().replace(batch_ids, *args)


def test_what_is_left_of_a_merge_that_lost_a_batch_to_another_owner_is_still_delivered() -> None:
    queue, script = Stolen(QueueOptions("stolen")), Script()
    for name in range(3):
        append(queue, name, created_at=float(name))
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert sorted(script.delivered) == [0, 1]
    assert queue.stats().depth == 0


def test_nothing_is_asked_of_a_store_that_does_not_exist_yet() -> None:
    queue, script = new_queue(), Script()
    with sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    assert not queue.exists()
    assert not script.sent


outcomes = st.sampled_from([ACCEPTED, RETRY, PARTIAL, TOO_LARGE, REFUSED, UNKNOWN_KEY])


@given(
    st.lists(outcomes, max_size=40),
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 9)), min_size=1, max_size=8),
)
def test_whatever_the_backend_answers_no_row_is_lost_or_delivered_twice(
    answers: list[Outcome], batches: list[tuple[Kind, int]]
) -> None:
    queue, script = new_queue(), Script(*answers)
    accepted = []
    for number, (kind, rows) in enumerate(batches):
        made = [f"{kind}-{number}-{row}" for row in range(rows)]
        append(queue, *made, kind=kind)
        accepted += made
    with patch.object(route_module, "HOLD_SECONDS", 0.0), sending(script, queue) as sender:
        sender.flush(WATCHDOG)
    buried = [name for letter in queue.dead_letters() for name in names(letter.batch)]
    assert sorted(script.delivered + buried) == sorted(accepted)
    assert balanced(queue)
    ledgers = queue.stats().ledger.values()
    assert sum(ledger.delivered for ledger in ledgers) == len(script.delivered)
    assert sum(ledger.dead_lettered for ledger in ledgers) == len(buried)
    assert queue.stats().depth == 0
