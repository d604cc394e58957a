"""The sender: takes batches from the queues, sends them, and says what became of each.

It is one thread per process and destination. It waits on a condition, and
whatever it does is written to the queue first, so that it may be killed at any
line.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence

from opentelemetry.instrumentation.utils import suppress_instrumentation

from ..codec import Row
from ..once import log_once
from ..queue.base import KINDS, Batch, DeadLetter, DeliveryQueue, Kind, Lease, QueueUnavailable
from .backoff import backoff_delay
from .encoder import Encoder
from .outcome import Outcome, Verdict
from .route import Route
from .transport import Transport

_logger = logging.getLogger(__name__)

MAX_REFUSALS = 5
"""Partial failures of one batch before it becomes a dead letter."""
MERGE_BATCHES = 64
"""Backlog batches that are merged into one request at most."""
MERGE_BYTES = 256 * 1024
"""Bytes of compressed bodies that are merged into one request at most."""
MERGE_ROWS = 1_000
"""Rows that are merged into one request at most."""
MERGE_BODY = 4 * 1024 * 1024
"""Bytes of the uncompressed body of a merged request at most."""


class Sender:
    """Delivers what is in `queues`, in their order; events before metrics, fresh batches before backlog.

    `_condition` guards the flags below it, which are all that other threads
    touch. `_sending` is held for a whole turn: there is one turn at a time,
    on the sender's thread or, where no thread can be started any more, on the
    thread that flushes. Requests are made under `_sending` and never under
    `_condition`.
    """

    def __init__(
        self,
        name: str,
        queues: Sequence[DeliveryQueue],
        transport: Transport,
        encoder: Encoder,
        routes: Mapping[Kind, Route],
        lease_seconds: float,
    ) -> None:
        self._name = name
        self._queues = tuple(queues)
        self._transport = transport
        self._encoder = encoder
        self._routes = routes
        self._lease_seconds = lease_seconds
        self._renewed_at = 0.0
        self._deferred_until: float | None = None
        self._reset()

    def _reset(self) -> None:
        self._condition = threading.Condition()
        self._awake = False
        self._stopping = False
        self._hurried = False
        self._asked = 0  # flushes that were asked for
        self._answered = 0  # flushes after which the sender has found nothing more that it can do
        self._thread: threading.Thread | None = None
        self._sending = threading.Lock()

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

    def flush(self, timeout: float) -> None:
        """Send what can be sent now, for at most `timeout` seconds.

        Pauses after failures are cut short once; it returns early when the
        backend still can't take anything.
        """
        deadline = time.monotonic() + timeout
        with self._condition:
            self._asked += 1
            ticket = self._asked
            self._awake = self._hurried = True
            self._condition.notify_all()
        if not self.start():
            self._flush_here(deadline)
            return
        with self._condition:
            self._condition.wait_for(lambda: self._answered >= ticket or self._stopping, max(0.0, timeout))

    def stop(self, timeout: float) -> None:
        """End the thread; a request that is under way is given `timeout` seconds to finish."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, timeout))
        self._transport.close()

    def after_fork_in_child(self) -> None:
        """Forget the parent's thread and locks, which do not exist in this process."""
        self._renewed_at = 0.0
        self._deferred_until = None
        self._reset()

    def _run(self) -> None:
        with suppress_instrumentation():
            while not self._stopping:
                with self._condition:
                    self._awake = False
                    asked = self._asked
                wait = self._guarded_turn()
                with self._condition:
                    if wait != 0.0:
                        self._answered = asked
                        self._condition.notify_all()
                        if not self._awake and not self._stopping:
                            self._condition.wait(wait)
            self._transport.close()

    def _flush_here(self, deadline: float) -> None:
        with suppress_instrumentation():
            while time.monotonic() < deadline and self._guarded_turn() == 0.0:
                pass

    def _guarded_turn(self) -> float | None:
        try:
            with self._sending:
                return self._turn()
        except QueueUnavailable as error:
            log_once(_logger, logging.WARNING, f"the Guard delivery queue can't be used now, trying again: {error}")
        except Exception:
            # The thread must outlive a defect of ours or of a user's queue: without it nothing is sent any more.
            _logger.exception("unexpected error while delivering to the Guard backend, trying again")
        return 1.0

    def _turn(self) -> float | None:
        """Send at most one batch. Return 0 to be called again at once, seconds to wait, or None to wait for `wake`."""
        self._hurry_once()
        queues = [queue for queue in self._queues if queue.exists()]
        if not queues:
            return None
        now = time.monotonic()
        wait = self._lease_seconds / 4
        for kind in KINDS:
            route = self._routes[kind]
            ready_in = route.ready_at(now) - now
            if ready_in > 0:
                wait = min(wait, ready_in)
                continue
            for queue in queues:
                leases = queue.lease(kind, time.time(), MERGE_BATCHES, MERGE_BYTES, MERGE_ROWS)
                self._renewed_at = now
                if len(leases) == 1:
                    self._deliver(queue, route, leases[0])
                    return 0.0
                if leases:
                    self._merge(queue, leases)
                    return 0.0
        if now - self._renewed_at >= self._lease_seconds / 4:
            for queue in queues:
                queue.renew(time.time())
            self._renewed_at = now
        return self._until_deferred(wait)

    def _hurry_once(self) -> None:
        with self._condition:
            hurried, self._hurried = self._hurried, False
        if hurried:
            for route in self._routes.values():
                route.hurry(time.monotonic())

    def _until_deferred(self, wait: float) -> float:
        if self._deferred_until is None:
            return wait
        due_in = self._deferred_until - time.time()
        if due_in <= 0:
            self._deferred_until = None
            return wait
        return min(wait, due_in)

    def _deliver(self, queue: DeliveryQueue, route: Route, lease: Lease) -> None:
        batch = lease.batch
        route.begin(time.monotonic())
        outcome = self._transport.send(batch)
        route.settle(outcome, time.monotonic())
        match outcome.verdict:
            case Verdict.ACCEPTED:
                queue.acknowledge(batch.batch_id)
            case Verdict.RETRY:
                # The batch steps aside for a while, so that one that the backend chokes on can't hold up the others.
                self._defer(queue, batch, backoff_delay(lease.attempts + 1), lease.refusals)
            case Verdict.MISCONFIGURED:
                self._defer(queue, batch, 0.0, lease.refusals)
            case Verdict.PARTIAL if lease.refusals + 1 < MAX_REFUSALS:
                self._defer(queue, batch, backoff_delay(lease.refusals + 1), lease.refusals + 1)
            case Verdict.TOO_LARGE | Verdict.REFUSED if batch.rows > 1:
                self._split(queue, batch, outcome)
            case _:
                self._bury(queue, batch, outcome)

    def _defer(self, queue: DeliveryQueue, batch: Batch, seconds: float, refusals: int) -> None:
        until = time.time() + seconds
        if queue.defer(batch.batch_id, until, refusals):
            self._deferred_until = min(until, self._deferred_until or until)

    def _merge(self, queue: DeliveryQueue, leases: Sequence[Lease]) -> None:
        """Put one batch in the place of several small ones that were never sent."""
        rows: list[Row] = []
        readable: list[str] = []
        for lease in leases:
            try:
                rows += self._encoder.rows(lease.batch)
                readable.append(lease.batch.batch_id)
            except ValueError:
                queue.defer(lease.batch.batch_id, 0.0)  # it counts as attempted now, so it comes alone and is judged
        queue.replace(readable, self._encoder.encode(leases[0].batch.kind, rows, MERGE_BODY))

    def _split(self, queue: DeliveryQueue, batch: Batch, outcome: Outcome) -> None:
        """Put two halves in the place of a batch, each with a `batch_id` of its own."""
        try:
            rows = self._encoder.rows(batch)
        except ValueError as error:
            self._bury(queue, batch, Outcome(outcome.verdict, outcome.status, f"{outcome.reason} ({error})"))
            return
        middle = len(rows) // 2
        halves = self._encoder.encode(batch.kind, rows[:middle]) + self._encoder.encode(batch.kind, rows[middle:])
        queue.replace([batch.batch_id], halves)

    def _bury(self, queue: DeliveryQueue, batch: Batch, outcome: Outcome) -> None:
        letter = DeadLetter(batch, outcome.status, outcome.reason, time.time())
        if queue.replace([batch.batch_id], [], [letter]):
            _logger.warning(
                "the Guard backend refuses %d %s for good (%d %s): kept as a dead letter, batch %s",
                batch.rows,
                batch.kind,
                outcome.status,
                outcome.reason[:200],
                batch.batch_id,
            )
