"""The sender: when batches are taken from the queues, and from which.

It is one thread per process and destination. It waits on a condition, and
whatever it does is written to the queue first, so that it may be killed at any
line.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry.instrumentation.utils import suppress_instrumentation

from .dispatch import Dispatch, Equipment
from .outage import LASTS
from .source import Source

_logger = logging.getLogger(__name__)

SHORT_PAUSE = 0.1
"""Seconds of a pause that a flush waits out: the limiter's pace, above all. A longer one ends the flush."""
TURN_SECONDS = 0.2
"""Seconds in which a turn ends that makes no request."""
UNAVAILABLE_SECONDS = 1.0
"""Seconds after which a queue that failed is tried again."""
BACKLOG_TURN = 4
"""Every fourth batch is the oldest instead of the newest, and may be one that a dead process left behind."""


class Sender:
    """Delivers what is in its queues, in their order; kinds in theirs, fresh batches before backlog.

    `_condition` guards the flags below it, which are all that other threads
    touch, and `_next_equipment`. `_sending` is held for a whole turn: there
    is one turn at a time, on the sender's thread or, where no thread can be
    started any more, on the thread that flushes. Requests are made under
    `_sending` and never under `_condition`. A turn ends with the equipment
    that it began with: `_equipment` and `_sources` change between turns.
    """

    def __init__(self, name: str, equipment: Equipment) -> None:
        self._name = name
        self._dispatch = Dispatch(equipment, self._pass_on)
        self._next_equipment: Equipment | None = None
        self._sources = [Source(queue, equipment.whose) for queue in equipment.queues]
        self._reset()

    def _reset(self) -> None:
        self._renewed_at = 0.0
        self._has_looked_back = False
        self._turns = 1
        self._condition = threading.Condition()
        self._awake = False
        self._stopping = False
        self._hurried = False
        self._asked = 0  # flushes that were asked for
        self._answered = 0  # flushes after which the sender has found nothing more that it can do
        self._next_try_at = 0.0  # monotonic; the next request that is foreseen, as of `_answered`
        self._thread: threading.Thread | None = None
        self._ended = False  # no turn begins any more
        self._at_end: Callable[[], object] | None = None
        self._sending = threading.Lock()

    @property
    def _equipment(self) -> Equipment:
        return self._dispatch.equipment

    def start(self) -> bool:
        """Start the thread unless it runs; return False where the interpreter starts no threads any more."""
        with self._condition:
            if self._stopping or (self._thread is not None and self._thread.is_alive()):
                return True
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
            return True

    def wake(self) -> None:
        """Say that there is something to send; a child of a fork gets its own thread here."""
        with self._condition:
            self._awake = True
            self._condition.notify_all()
        self.start()

    def flush(self, timeout: float, hurry: bool = False, content: Callable[[], bool] = lambda: True) -> None:
        """Send what can be sent now, for at most `timeout` seconds.

        With `hurry` the pauses after failures are cut short once. It returns
        early when the backend still can't take anything, unless the caller is
        not `content` with what is left and there is time for another try.
        """
        deadline = time.monotonic() + timeout
        with self._condition:
            self._asked += 1
            ticket = self._asked
            self._awake = True
            self._hurried = self._hurried or hurry
            self._condition.notify_all()
        if not self.start():
            self._flush_here(deadline, content)
            return
        with self._condition:
            self._condition.wait_for(
                lambda: self._stopping or (self._answered >= ticket and (self._next_try_at >= deadline or content())),
                max(0.0, timeout),
            )

    def equip(self, equipment: Equipment) -> None:
        """Work with other equipment from the next turn on; a request that is under way is not waited for."""
        with self._condition:
            self._next_equipment = equipment
        self.wake()

    def end(self, then: Callable[[], object]) -> None:
        """Send no more, and call `then` when the request that is under way has ended; this returns at once."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
            if self._thread is not None and self._thread.is_alive() and not self._ended:
                self._at_end = then
                return
        then()

    def stop(self, timeout: float) -> None:
        """End the thread; a request that is under way is given `timeout` seconds to finish."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            # Whatever the time: a turn that is not sending is over in an instant, and must not outlive the lease.
            thread.join(max(TURN_SECONDS, timeout))
        self._equipment.transport.close()

    def after_fork_in_child(self) -> None:
        """Forget the parent's thread and locks, which do not exist in this process."""
        self._reset()
        self._dispatch = Dispatch(self._equipment, self._pass_on)
        for source in self._sources:
            source.forget()

    @property
    def has_died(self) -> bool:
        """Whether the thread has ended although nobody ended it; `wake` starts another."""
        with self._condition:
            return self._thread is not None and not self._thread.is_alive() and not self._stopping

    def _run(self) -> None:
        with suppress_instrumentation():
            while not self._stopping:
                try:
                    self._turn_and_wait()
                except BaseException:
                    # What is raised into a thread (a greenlet's end, a signal's exception) may come at any line.
                    _logger.exception("the delivery to the %s backend was interrupted, going on", self._equipment.whose)
                    time.sleep(SHORT_PAUSE)
            self._equipment.transport.close()
        with self._condition:
            self._ended, then = True, self._at_end
        if then is not None:
            then()

    def _turn_and_wait(self) -> None:
        with self._condition:
            self._awake = False
            asked = self._asked
        wait = self._guarded_turn()
        with self._condition:
            if wait is None or wait > SHORT_PAUSE:
                self._answered = asked
                self._condition.notify_all()
            if wait != 0.0 and not self._awake and not self._stopping:
                self._condition.wait(wait)

    def _flush_here(self, deadline: float, content: Callable[[], bool]) -> None:
        self._dispatch.give_up_at = deadline
        with suppress_instrumentation():
            while (left := deadline - time.monotonic()) > 0:
                wait = self._guarded_turn()
                if wait is None or (wait > SHORT_PAUSE and (self._next_try_at >= deadline or content())):
                    break
                time.sleep(min(wait, left))
        self._dispatch.give_up_at = float("inf")

    def _guarded_turn(self) -> float | None:
        try:
            with self._sending:
                # A turn that began after the end would take up the lease that the end gives up.
                return None if self._stopping else self._turn()
        except BaseException as error:
            # The thread must outlive a defect of ours: without it nothing is sent any more.
            _logger.exception(
                "unexpected error while delivering to the %s backend, trying again", self._equipment.whose
            )
            self._pass_on(error)
        return UNAVAILABLE_SECONDS

    def _pass_on(self, error: BaseException) -> None:
        """Raise what interrupts a caller on whose own thread is sent (Ctrl-C); on the sender's it ends nothing."""
        if not isinstance(error, Exception) and threading.current_thread() is not self._thread:
            raise error

    def _turn(self) -> float | None:
        """Send at most one batch. Return 0 to be called again at once, seconds to wait, or None to wait for `wake`."""
        self._take_equipment()
        self._hurry_once()
        self._equipment.encoder.limit.refresh()
        busy = self._equipment.upkeep()
        sources = [source for source in self._sources if source.open()]
        now = time.monotonic()
        lease_seconds = self._equipment.lease_seconds
        if now - self._renewed_at >= lease_seconds / 4:
            for source in sources:
                source.renew()
            self._renewed_at = now
        self._look_back(sources, now)
        wait, max_rows = lease_seconds / 4, self._equipment.encoder.max_rows
        self._next_try_at = float("inf")
        for kind, route in self._equipment.routes.items():
            ready_in = route.ready_at(now) - now
            if ready_in > 0:
                wait = min(wait, ready_in)
                self._next_try_at = min(self._next_try_at, now + ready_in)
                continue
            for source in sources:
                if leases := source.lease(kind, self._turns % BACKLOG_TURN == 0, max_rows, self._equipment.in_flight):
                    self._turns += 1
                    self._dispatch.handle(source, route, leases)
                    return 0.0
        if busy:
            return 0.0
        if any(source.failing for source in self._sources):
            return min(wait, UNAVAILABLE_SECONDS)
        # Also where there is no store yet: a sibling may begin one, and leave something behind.
        return self._until_due(now, wait)

    def _look_back(self, sources: Sequence[Source], now: float) -> None:
        """Once in a process: take what has waited in a queue for a sign of an outage that is just over, or is not."""
        if self._has_looked_back or not sources:
            return
        self._has_looked_back = True
        if any(source.waits_since() < time.time() - LASTS for source in sources):
            for route in self._equipment.routes.values():
                route.outage.remember(now)

    def _take_equipment(self) -> None:
        with self._condition:
            equipment, self._next_equipment = self._next_equipment, None
        if equipment is None:
            return
        # What a source owes its queue stays owed.
        known = {id(source.queue): source for source in self._sources}
        self._sources = [known.get(id(queue)) or Source(queue, equipment.whose) for queue in equipment.queues]
        self._dispatch.equip(equipment)

    def _hurry_once(self) -> None:
        with self._condition:
            hurried, self._hurried = self._hurried, False
        if hurried:
            for route in self._equipment.routes.values():
                route.hurry(time.monotonic())

    def _until_due(self, looked_at: float, wait: float) -> float:
        """Return how long to wait so that a deferred batch that was not due at `looked_at` is not kept waiting."""
        due = self._dispatch.due
        while due and due[0] <= looked_at:
            heapq.heappop(due)
        if not due:
            return wait
        now = time.monotonic()
        due_in = max(0.0, due[0] - now)
        self._next_try_at = min(self._next_try_at, now + due_in)
        return min(wait, due_in)
