"""The sender: takes batches from the queues, sends them, and says what became of each.

It is one thread per process and destination. It waits on a condition, and
whatever it does is written to the queue first, so that it may be killed at any
line.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from opentelemetry.instrumentation.utils import suppress_instrumentation

from ..events.codec import Row
from ..queue.base import DROPPED_TIMESTAMP, KINDS, Batch, DeadLetter, DeliveryQueue, Kind, Lease
from ..settings.once import log_once
from .backoff import RetryPolicy
from .encoder import Encoder, Piece, plain_size
from .outcome import Outcome, Verdict, as_unproven
from .rejection import untimely, with_rejections
from .route import Route
from .source import Source
from .transport import Transport

_logger = logging.getLogger(__name__)

SHORT_PAUSE = 0.1
"""Seconds of a pause that a flush waits out: the limiter's pace, above all. A longer one ends the flush."""
TURN_SECONDS = 0.2
"""Seconds in which a turn ends that makes no request."""
UNAVAILABLE_SECONDS = 1.0
"""Seconds after which a queue that failed is tried again."""
REMEMBERED_BATCHES = 1000
"""Batches without an answer that are remembered, since they may have arrived."""
BACKLOG_TURN = 4
"""Every fourth batch is the oldest instead of the newest, and may be one that a dead process left behind."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a sender works with.

    Attributes:
        queues: where batches come from, in this order.
        transport: takes them to the backend.
        encoder: opens, merges and splits them.
        routes: say when a request may be made.
        lease_seconds: how long a lease lasts; it is renewed four times as often.
        retry: when a batch that failed is tried again.
        is_known: finds out whether it is the Guard backend that answers, by a call that carries no rows.
        upkeep: a short piece of work that each turn begins with; it returns whether there is more of it.
    """

    queues: Sequence[DeliveryQueue]
    transport: Transport
    encoder: Encoder
    routes: Mapping[Kind, Route]
    lease_seconds: float
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    is_known: Callable[[], bool] = lambda: False
    upkeep: Callable[[], bool] = lambda: False


class Sender:
    """Delivers what is in its queues, in their order; events before metrics, fresh batches before backlog.

    `_condition` guards the flags below it, which are all that other threads
    touch, and `_next_equipment`. `_sending` is held for a whole turn: there
    is one turn at a time, on the sender's thread or, where no thread can be
    started any more, on the thread that flushes. Requests are made under
    `_sending` and never under `_condition`. A turn ends with the equipment
    that it began with: `_equipment` and `_sources` change between turns.
    """

    def __init__(self, name: str, equipment: Equipment) -> None:
        self._name = name
        self._equipment = equipment
        self._next_equipment: Equipment | None = None
        self._sources = [Source(queue) for queue in equipment.queues]
        self._has_delivered = False  # through this equipment's transport
        self._reset()

    def _reset(self) -> None:
        self._renewed_at = 0.0
        self._turns = 1
        self._unanswered: OrderedDict[str, None] = OrderedDict()  # batches that may have arrived
        self._due: list[float] = []  # a heap of the times (monotonic) at which deferred batches come due
        self._give_up_at = float("inf")  # monotonic; a request that is begun ends by then
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
                    _logger.exception("the delivery to the Guard backend was interrupted, going on")
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
        self._give_up_at = deadline
        with suppress_instrumentation():
            while (left := deadline - time.monotonic()) > 0:
                wait = self._guarded_turn()
                if wait is None or (wait > SHORT_PAUSE and (self._next_try_at >= deadline or content())):
                    break
                time.sleep(min(wait, left))
        self._give_up_at = float("inf")

    def _guarded_turn(self) -> float | None:
        try:
            with self._sending:
                # A turn that began after the end would take up the lease that the end gives up.
                return None if self._stopping else self._turn()
        except BaseException as error:
            # The thread must outlive a defect of ours: without it nothing is sent any more.
            _logger.exception("unexpected error while delivering to the Guard backend, trying again")
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
        wait = lease_seconds / 4
        self._next_try_at = float("inf")
        for kind in KINDS:
            route = self._equipment.routes[kind]
            ready_in = route.ready_at(now) - now
            if ready_in > 0:
                wait = min(wait, ready_in)
                self._next_try_at = min(self._next_try_at, now + ready_in)
                continue
            for source in sources:
                if leases := source.lease(kind, self._turns % BACKLOG_TURN == 0, self._equipment.encoder.max_rows):
                    self._turns += 1
                    self._handle(source, route, leases)
                    return 0.0
        if busy:
            return 0.0
        if any(source.failing for source in self._sources):
            return min(wait, UNAVAILABLE_SECONDS)
        # Also where there is no store yet: a sibling may begin one, and leave something behind.
        return self._until_due(now, wait)

    def _take_equipment(self) -> None:
        with self._condition:
            equipment, self._next_equipment = self._next_equipment, None
        if equipment is None:
            return
        if equipment.transport is not self._equipment.transport:
            self._equipment.transport.close()
            self._has_delivered = False
        # What a source owes its queue stays owed.
        known = {id(source.queue): source for source in self._sources}
        self._sources = [known.get(id(queue)) or Source(queue) for queue in equipment.queues]
        self._equipment = equipment

    def _hurry_once(self) -> None:
        with self._condition:
            hurried, self._hurried = self._hurried, False
        if hurried:
            for route in self._equipment.routes.values():
                route.hurry(time.monotonic())

    def _until_due(self, looked_at: float, wait: float) -> float:
        """Return how long to wait so that a deferred batch that was not due at `looked_at` is not kept waiting."""
        while self._due and self._due[0] <= looked_at:
            heapq.heappop(self._due)
        if not self._due:
            return wait
        now = time.monotonic()
        due_in = max(0.0, self._due[0] - now)
        self._next_try_at = min(self._next_try_at, now + due_in)
        return min(wait, due_in)

    def _handle(self, source: Source, route: Route, leases: Sequence[Lease]) -> None:
        try:
            if len(leases) == 1 and self._equipment.encoder.is_current(leases[0].batch):
                self._deliver(source, route, leases[0])
            else:
                self._encode_again(source, route, leases)
        except BaseException as error:
            # Whatever it was: a batch that is left in flight would be delivered by nobody while this process lives.
            _logger.exception("unexpected error while delivering to the Guard backend, trying again")
            for lease in leases:
                self._defer(source, lease.batch, 1.0 + self._delay(lease.attempts + 1), lease.refusals)
            self._pass_on(error)

    def _deliver(self, source: Source, route: Route, lease: Lease) -> None:
        batch, limit = lease.batch, self._equipment.encoder.limit
        size = plain_size(batch)
        if batch.rows == 1 and limit.refuses(size):
            self._bury(source, batch, Outcome(Verdict.TOO_LARGE, 413, f"its body has {size} bytes, more than is taken"))
            return
        route.begin(time.monotonic())
        outcome = self._send(batch)
        answered_at, text = time.monotonic(), outcome.reason
        if batch.encrypted and outcome.reason:
            # An answer may quote the rows that it refuses, and what is encrypted is not to be found in clear anywhere.
            outcome = replace(outcome, reason="the answer's text is not kept where rows are encrypted")
        if outcome.verdict is Verdict.REFUSED and outcome.status and not self._is_known(source):
            outcome = as_unproven(outcome)
        match outcome.verdict:
            case Verdict.ACCEPTED:
                self._has_delivered = True
                limit.taken(size)
                outcome = with_rejections(outcome, batch, batch.batch_id in self._unanswered)
                self._acknowledge(source, batch, outcome)
            case Verdict.RETRY:
                # The batch steps aside for a while, so that one that the backend chokes on can't hold up the others.
                self._defer(source, batch, self._delay(lease.attempts + 1), lease.refusals)
            case Verdict.MISCONFIGURED:
                self._defer(source, batch, 0.0, lease.refusals)
            case Verdict.PARTIAL if lease.refusals + 1 < self._equipment.retry.attempts:
                pause = max(self._delay(lease.refusals + 1), outcome.retry_after or 0.0)
                self._defer(source, batch, pause, lease.refusals + 1)
            case Verdict.TOO_LARGE | Verdict.REFUSED:
                if outcome.verdict is Verdict.TOO_LARGE:
                    limit.refused(size, text)
                if batch.rows > 1:
                    self._split(source, batch, outcome)
                else:
                    self._bury(source, batch, outcome)
            case Verdict.PARTIAL:
                self._bury(source, batch, outcome)
        self._remember(batch, outcome)
        # Last, since it tells the application's own instruments: whatever they do, the batch has been dealt with.
        route.settle(outcome, answered_at, batch)

    def _remember(self, batch: Batch, outcome: Outcome) -> None:
        """Note whether a batch may have arrived although nobody said so."""
        if outcome.verdict is Verdict.PARTIAL or (
            outcome.verdict is Verdict.RETRY and outcome.status not in (429, 503)
        ):
            self._unanswered[batch.batch_id] = None
            while len(self._unanswered) > REMEMBERED_BATCHES:
                self._unanswered.popitem(last=False)
        else:
            self._unanswered.pop(batch.batch_id, None)

    def _acknowledge(self, source: Source, batch: Batch, outcome: Outcome) -> None:
        """Say that a batch is delivered; of the rows that the backend has not kept, those that are known die."""
        rejected = dict(outcome.rejected)
        letters: list[DeadLetter] = []
        if rejected:
            log_once(
                _logger,
                logging.WARNING,
                f"the Guard backend does not keep all {batch.kind} that it takes: {outcome.reason}",
                cause=f"the backend rejects {batch.kind} as {', '.join(rejected)}",
            )
        if dropped := rejected.get(DROPPED_TIMESTAMP):
            now = time.time() if outcome.server_time is None else outcome.server_time
            if found := untimely(self._rows(batch), dropped, now):
                del rejected[DROPPED_TIMESTAMP]
                parts = self._equipment.encoder.encode(batch.kind, found, batch.created_at)
                letters = [DeadLetter(part, outcome.status, outcome.reason, time.time()) for part in parts]
        source.acknowledge(batch, rejected, letters)

    def _rows(self, batch: Batch) -> list[Row]:
        """Return a batch's rows, none where they can't be read."""
        try:
            return self._equipment.encoder.rows(batch)
        except ValueError:
            return []

    def _send(self, batch: Batch) -> Outcome:
        try:
            return self._equipment.transport.send(batch, self._give_up_at - time.monotonic())
        except BaseException as error:
            self._pass_on(error)
            what = f"the transport raised {type(error).__name__}"
            log_once(_logger, logging.ERROR, f"{what}: {error}. Rows are kept, and come again", cause=what)
            _logger.debug("%s", what, exc_info=error)
            return Outcome(Verdict.RETRY, reason=f"{what}: {error}"[:300])

    def _is_known(self, source: Source) -> bool:
        """Whether it is the Guard backend that answers: only its refusals are verdicts on rows."""
        return self._has_delivered or source.has_delivered() or self._equipment.is_known()

    def _delay(self, failures: int) -> float:
        return self._equipment.retry.delay(failures)

    def _defer(self, source: Source, batch: Batch, seconds: float, refusals: int) -> None:
        source.defer(batch, seconds, refusals)
        heapq.heappush(self._due, time.monotonic() + seconds)

    def _encode_again(self, source: Source, route: Route, leases: Sequence[Lease]) -> None:
        """Put one batch in the place of several small ones never sent, or of one that is not as it is to be sent."""
        encoder = self._equipment.encoder
        pieces: list[Piece] = []
        readable: list[Batch] = []
        for lease in leases:
            try:
                pieces += encoder.pieces(lease.batch)
                readable.append(lease.batch)
            except ValueError as error:
                if len(leases) == 1:
                    self._bury(source, lease.batch, Outcome(Verdict.REFUSED, reason=str(error)))
                else:
                    # It counts as attempted now, so it comes alone and is judged alone.
                    self._defer(source, lease.batch, 0.0, lease.refusals)
        if not readable:
            return
        merged = encoder.join(readable[0].kind, pieces, min(batch.created_at for batch in readable))
        # They stay in flight and go out in this turn: put back, they would wait behind whatever has come meanwhile.
        if source.replace(readable, merged, in_flight=True):
            for batch in merged:
                now = time.monotonic()
                if route.ready_at(now) > now:
                    self._defer(source, batch, 0.0, 0)
                elif encoder.is_current(batch):
                    self._deliver(source, route, Lease(batch))
                else:
                    # What came back for one of them has taught that the others are too large as well.
                    self._encode_again(source, route, [Lease(batch)])

    def _split(self, source: Source, batch: Batch, outcome: Outcome) -> None:
        """Put in the place of a batch those that its rows make under the limit, each with a `batch_id` of its own.

        Where it is within the limit, they are its two halves.
        """
        encoder = self._equipment.encoder
        try:
            rows = encoder.rows(batch)
        except ValueError as error:
            self._bury(source, batch, Outcome(outcome.verdict, outcome.status, f"{outcome.reason} ({error})"))
            return
        middle = len(rows) if plain_size(batch) >= encoder.limit.bound else len(rows) // 2
        parts = [
            part
            for half in (rows[:middle], rows[middle:])
            for part in encoder.encode(batch.kind, half, batch.created_at)
        ]
        source.replace([batch], parts)

    def _bury(self, source: Source, batch: Batch, outcome: Outcome) -> None:
        log_once(
            _logger,
            logging.WARNING,
            f"the Guard backend refuses {batch.kind} for good; they are kept as dead letters. "
            f"The first: {outcome.status} {outcome.reason[:200]}",
            cause=f"dead letters with status {outcome.status}",
        )
        _logger.debug("dead letter: batch %s, %d rows, %d", batch.batch_id, batch.rows, outcome.status)
        source.replace([batch], [], [DeadLetter(batch, outcome.status, outcome.reason, time.time())])
