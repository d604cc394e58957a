"""The threads for calls that carry no rows: one a process for status reports, and two for rules.

Each is apart from the others and from the sender, so that a slow answer to one
call never delays an event, nor a report the rules. A thread sleeps until its
next call is due, and ends when nobody has calls to make.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Protocol

from opentelemetry.instrumentation.utils import suppress_instrumentation

_logger = logging.getLogger(__name__)

AFTER_A_DEFECT = 1.0
"""Seconds that a task is left alone after it has raised."""


class Task(Protocol):
    """Something that makes a call now and then.

    `due_at` is the monotonic time of the next call, infinite while there is
    none to make; it is read under the control's lock, so it must not take one.
    `starts_in_child` says whether a forked child needs the task at once,
    and not only when the child itself has something to deliver.
    """

    due_at: float
    starts_in_child: bool

    def run(self) -> None:
        """Make the call, and set `due_at` to the time of the next one."""
        ...

    def after_fork_in_child(self) -> None:
        """Begin anew in a forked child: its own locks, and a `due_at` that spreads siblings."""
        ...


class Control:
    """Runs tasks when they are due, one after the other, on one daemon thread.

    `_condition` guards `_tasks` and `_thread`. A task runs outside of it, so
    `remove` returns at once, also while the task is waiting for an answer.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: list[Task] = []
        self._reset()

    def _reset(self) -> None:
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, task: Task) -> None:
        """Run `task` from now on; a second time changes nothing."""
        with self._condition:
            if task not in self._tasks:
                self._tasks.append(task)
        self.wake()

    def remove(self, task: Task) -> None:
        """Run `task` no more; a call that is under way is not waited for."""
        with self._condition:
            if task in self._tasks:
                self._tasks.remove(task)
            self._condition.notify_all()

    def wake(self) -> None:
        """Say that a task has become due earlier; a child of a fork gets its own thread here."""
        with self._condition:
            self._condition.notify_all()
            if self._tasks and not self._runs():
                self._start()

    def ensure(self) -> None:
        """Start the thread where a fork has left this process without it; cheap where there is nothing to do."""
        if self._tasks and not self._runs():
            self.wake()

    def after_fork_in_child(self) -> None:
        """Forget the parent's thread and lock, which do not exist in this process."""
        self._reset()
        for task in self._tasks:
            task.after_fork_in_child()
        if any(task.starts_in_child for task in self._tasks):
            self.wake()

    def _runs(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            _logger.debug("the interpreter starts no threads any more: no calls by %s", self._name)
        else:
            self._thread = thread

    def _run(self) -> None:
        with suppress_instrumentation():
            while (task := self._next()) is not None:
                try:
                    task.run()
                except BaseException:
                    # The thread must outlive it: nobody else makes these calls.
                    _logger.exception("unexpected error in a call to the Guard backend, trying again")
                    task.due_at = time.monotonic() + AFTER_A_DEFECT

    def _next(self) -> Task | None:
        """Wait for a task to be due and return it; None when there are no tasks, which is the thread's end."""
        with self._condition:
            while self._tasks:
                task = min(self._tasks, key=lambda task: task.due_at)
                left = task.due_at - time.monotonic()
                if left <= 0:
                    return task
                self._condition.wait(min(left, threading.TIMEOUT_MAX))
            self._thread = None
            return None


REPORTS = Control("OtelGuardReports")
"""Runs the status reports of this process."""
RULES = Control("OtelGuardRules")
"""Runs this process's questions for dynamic rules."""
RULES_STREAM = Control("OtelGuardRulesStream")
"""Waits on the connection on which the backend tells of changed rules."""

if hasattr(os, "register_at_fork"):
    for control in (REPORTS, RULES, RULES_STREAM):
        os.register_at_fork(after_in_child=control.after_fork_in_child)
