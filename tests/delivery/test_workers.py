"""Calls that nobody waits for beyond their time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest
from support.redis import eventually

from opentelemetry_guard.delivery import workers as workers_module
from opentelemetry_guard.delivery.workers import Workers

WATCHDOG = 60.0


@pytest.fixture
def ended() -> list[str]:
    return []


@pytest.fixture
def workers(ended: list[str]) -> Iterator[Workers]:
    made = Workers("test-worker", lambda: ended.append(threading.current_thread().name))
    yield made
    made.close()


def thread_of(workers: Workers) -> threading.Thread:
    return workers.call(threading.current_thread, WATCHDOG)


def test_a_call_returns_what_its_job_returns_and_raises_what_it_raises(workers: Workers) -> None:
    assert workers.call(lambda: 7, WATCHDOG) == 7
    with pytest.raises(KeyError, match="missing"):
        workers.call(lambda: {}["missing"], WATCHDOG)


def test_a_thread_is_used_again_and_ends_with_its_cleaning_up(workers: Workers, ended: list[str]) -> None:
    first = thread_of(workers)
    assert thread_of(workers) is first
    workers.close()
    assert not first.is_alive()
    assert ended == ["test-worker"]
    assert thread_of(workers) is not first


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_should_end_a_thread_ends_the_call_alone(workers: Workers, error: BaseException) -> None:
    def job() -> None:
        raise error

    first = thread_of(workers)
    with pytest.raises(RuntimeError, match=type(error).__name__):
        workers.call(job, WATCHDOG)
    assert thread_of(workers) is first


def test_a_timeout_of_the_jobs_own_is_told_as_it_is(workers: Workers) -> None:
    def job() -> None:
        raise TimeoutError("its own")

    first = thread_of(workers)
    with pytest.raises(TimeoutError, match="its own"):
        workers.call(job, WATCHDOG)
    assert thread_of(workers) is first


def test_a_thread_that_hangs_is_left_behind_and_cleans_up_when_it_is_done(workers: Workers, ended: list[str]) -> None:
    release, threads = threading.Event(), []

    def hang() -> None:
        threads.append(threading.current_thread())
        release.wait(WATCHDOG)

    with pytest.raises(TimeoutError, match="timed out"):
        workers.call(hang, 0.05)
    eventually(lambda: threads)
    assert thread_of(workers) is not threads[0]
    release.set()
    threads[0].join(WATCHDOG)
    assert ended == ["test-worker"]


def test_an_idle_thread_ends_by_itself(workers: Workers) -> None:
    with patch.object(workers_module, "IDLE_SECONDS", 0.01):
        first = thread_of(workers)
        first.join(WATCHDOG)
    assert not first.is_alive()
    assert thread_of(workers) is not first


def test_where_no_thread_can_be_started_the_caller_does_the_job(workers: Workers) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with patch.object(threading.Thread, "start", refuse):
        assert thread_of(workers) is threading.current_thread()


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_without_time_nothing_is_done(workers: Workers, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        workers.call(lambda: pytest.fail("it was done"), seconds)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_threads_of_its_own(workers: Workers) -> None:
    job: Callable[[], int] = os.getpid
    assert workers.call(job, WATCHDOG) == os.getpid()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if workers.call(job, WATCHDOG) == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_as_many_idle_threads_are_kept_as_calls_are_made_at_once() -> None:
    made = Workers("test-idle", lambda: None, 2)
    try:
        both = threading.Barrier(3)
        used: list[set[int]] = []
        for _ in range(3):
            names: set[int] = set()

            def meet(names: set[int] = names) -> None:
                names.add(threading.get_ident())
                both.wait(20.0)

            calls = [threading.Thread(target=made.call, args=(meet, 20.0)) for _ in range(2)]
            for call in calls:
                call.start()
            both.wait(20.0)
            for call in calls:
                call.join()
            used.append(names)
        assert used[0] == used[1] == used[2]
        assert len(used[0]) == 2
    finally:
        made.close()
