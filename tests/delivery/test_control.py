"""The control thread: one for all tasks, asleep until one is due, and gone when there are none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from opentelemetry_guard.delivery.control import Control

WATCHDOG = 60.0
NEVER = float("inf")


class Counting:
    """A task that runs when it is asked to, and says so."""

    def __init__(self, work: Callable[[], None] = lambda: None, starts_in_child: bool = False) -> None:
        self.due_at = 0.0
        self.starts_in_child = starts_in_child
        self.ran = threading.Event()
        self.runs = 0
        self.threads: set[str] = set()
        self._work = work

    def run(self) -> None:
        self.due_at = NEVER
        self.runs += 1
        self.threads.add(threading.current_thread().name)
        self.ran.set()
        self._work()

    def after_fork_in_child(self) -> None:
        self.ran = threading.Event()
        self.due_at = 0.0


@pytest.fixture
def control() -> Iterator[Control]:
    made = Control("control under test")
    yield made
    for task in list(made._tasks):
        made.remove(task)


def test_tasks_run_on_one_daemon_thread_when_they_are_due(control: Control) -> None:
    tasks = [Counting(), Counting()]
    for task in tasks:
        control.add(task)
    assert all(task.ran.wait(WATCHDOG) for task in tasks)
    assert {name for task in tasks for name in task.threads} == {"control under test"}
    thread = control._thread
    assert thread is not None
    assert thread.daemon


def test_a_task_that_becomes_due_earlier_runs_when_the_control_is_woken(control: Control) -> None:
    task = Counting()
    task.due_at = time.monotonic() + 3600
    control.add(task)
    task.due_at = 0.0
    control.wake()
    assert task.ran.wait(WATCHDOG)


def test_a_task_that_raises_is_left_alone_for_a_while_and_keeps_nobody_from_running(
    control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    def defect() -> None:
        raise ZeroDivisionError

    broken = Counting(defect)
    control.add(broken)
    assert broken.ran.wait(WATCHDOG)
    other = Counting()
    control.add(other)
    assert other.ran.wait(WATCHDOG)
    assert "unexpected error in a call to the Guard backend" in caplog.text
    assert broken.due_at > 0.0


def test_the_thread_ends_with_the_last_task_and_begins_with_the_next(control: Control) -> None:
    task = Counting()
    control.add(task)
    assert task.ran.wait(WATCHDOG)
    thread = control._thread
    assert thread is not None
    control.remove(task)
    thread.join(WATCHDOG)
    assert not thread.is_alive()
    again = Counting()
    control.add(again)
    assert again.ran.wait(WATCHDOG)


def test_removing_a_task_does_not_wait_for_its_call(control: Control) -> None:
    going_on = threading.Event()
    task = Counting(lambda: going_on.wait(WATCHDOG) and None)
    control.add(task)
    assert task.ran.wait(WATCHDOG)
    control.remove(task)
    assert not going_on.is_set()
    going_on.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("at_once", [True, False])
def test_a_forked_child_has_a_thread_of_its_own_at_once_only_for_tasks_that_need_it(
    control: Control, at_once: bool
) -> None:
    task = Counting(starts_in_child=at_once)
    control.add(task)
    assert task.ran.wait(WATCHDOG)
    pid = os.fork()
    if pid == 0:
        try:
            control.after_fork_in_child()
            started = control._thread is not None
            control.ensure()
            os._exit(0 if started is at_once and task.ran.wait(WATCHDOG) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
