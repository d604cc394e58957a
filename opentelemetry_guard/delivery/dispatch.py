"""What becomes of batches that a queue has handed out: merged or cut to requests, sent, and dealt with by the answer.

A batch that was handed out is given back in every case: acknowledged,
deferred, or replaced by others and dead letters. Several requests may be
under way at once; all the rest is done on the thread whose turn it is, which
waits for them.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from opentelemetry.instrumentation.utils import suppress_instrumentation

from ..queue.base import Batch, DeadLetter, DeliveryQueue, Kind, Lease
from ..settings.once import log_once
from .backoff import RetryPolicy
from .breaker import BreakerState
from .outcome import Outcome, Verdict, as_unproven, too_large
from .route import Route
from .source import Source
from .wire import Cargo, Piece, Sending

_logger = logging.getLogger(__name__)

REMEMBERED_BATCHES = 1000
"""Batches without an answer that are remembered, since they may have arrived."""
TRIAL_PAUSE = 0.05
"""Seconds after which it is looked again whether another process has found out that a size is taken."""
THREAD = "OtelGuardSending"
"""Name of the threads on which a second request waits for its answer beside the first."""
FULL_SHARE = 0.5
"""Share of a request's bound, in bytes or rows, from which on a batch goes as it is stored and is not merged."""
QUICK_SECONDS = 0.01
"""Seconds of an answer below which a second thread for the next request costs more than it saves."""
FRESH_SECONDS = 1.0
"""Seconds after which a batch that still waits is one of a backlog, which goes as fast as it can."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a sender works with.

    Attributes:
        queues: where batches come from, in this order.
        transport: takes them to the backend.
        encoder: opens, merges and splits them.
        routes: say when a request may be made, in the order in which kinds are sent.
        lease_seconds: how long a lease lasts; it is renewed four times as often.
        retry: when a batch that failed is tried again.
        is_known: finds out whether it is the backend itself that answers, by a call that carries no rows.
        in_flight: requests that are made at once, at most.
        upkeep: a short piece of work that each turn begins with; it returns whether there is more of it.
        whose: what the backend is called in messages.
    """

    queues: Sequence[DeliveryQueue]
    transport: Sending
    encoder: Cargo
    routes: Mapping[Kind, Route]
    lease_seconds: float
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    is_known: Callable[[], bool] = lambda: False
    upkeep: Callable[[], bool] = lambda: False
    in_flight: int = 2
    whose: str = "Guard"


class Dispatch:
    """Deals with one source's batches at a time. The caller holds the lock where there is more than one thread.

    Attributes:
        equipment: what is sent by; the caller changes it between two calls.
        due: a heap of the times (monotonic) at which deferred batches come due.
        give_up_at: when (monotonic) a request that is begun ends at the latest.
    """

    def __init__(self, equipment: Equipment, pass_on: Callable[[BaseException], None]) -> None:
        """Make one; `pass_on` raises what is meant to interrupt the calling thread, and else returns."""
        self.equipment = equipment
        self.due: list[float] = []
        self.give_up_at = float("inf")
        self._pass_on = pass_on
        self._has_delivered = False  # through this equipment's transport
        self._took = float("inf")  # seconds of the requests that were made last
        self._is_barred = False  # what is to be sent waits for another process to find out whether such a size is taken
        self._unanswered: OrderedDict[str, None] = OrderedDict()  # batches that may have arrived

    def equip(self, equipment: Equipment) -> None:
        """Send by other equipment from now on."""
        if equipment.transport is not self.equipment.transport:
            self.equipment.transport.close()
            self._has_delivered = False
        self.equipment = equipment

    def handle(self, source: Source, route: Route, leases: Sequence[Lease]) -> None:
        """Send what a source has handed out, as far as the route is ready for it."""
        waiting: deque[Lease] = deque()
        held = {lease.batch.batch_id: lease for lease in leases}
        try:
            waiting.extend(self._requests(source, leases))
            held.update({lease.batch.batch_id: lease for lease in waiting})
            while going := self._begun(route, waiting):
                for lease, outcome in zip(going, self._send(going), strict=True):
                    self._settle(source, route, lease, outcome)
                self.equipment.encoder.limit.tried()
                if not all(self.equipment.encoder.is_current(lease.batch) for lease in waiting):
                    # What came back for one of them has taught that the others are too large as well.
                    waiting = deque(self._requests(source, waiting))
                    held.update({lease.batch.batch_id: lease for lease in waiting})
            pause = TRIAL_PAUSE if self._is_barred else 0.0
            for lease in waiting:
                self._defer(source, lease.batch, pause, lease.refusals)
        except BaseException as error:
            # Whatever it was: a batch that is left in flight would be delivered by nobody while this process lives.
            _logger.exception("unexpected error while delivering to the %s backend, trying again", self.equipment.whose)
            for lease in held.values():
                self._defer(source, lease.batch, 1.0 + self._delay(lease.attempts + 1), lease.refusals)
            self.equipment.encoder.limit.tried()
            self._pass_on(error)

    def _requests(self, source: Source, leases: Sequence[Lease]) -> list[Lease]:
        """Return what is to be sent: of `leases` those that make a request as they are, and what joins the others."""
        encoder = self.equipment.encoder
        leases = [left for lease in leases if (left := self._sifted(source, lease)) is not None]
        ready: list[Lease] = []
        pieces: list[Piece] = []
        readable: list[Batch] = []
        for lease in leases:
            if self._is_request(lease, alone=len(leases) == 1):
                ready.append(lease)
                continue
            try:
                pieces += encoder.pieces(lease.batch)
                readable.append(lease.batch)
            except ValueError as error:
                if len(leases) == 1:
                    self._bury(source, lease.batch, Outcome(Verdict.REFUSED, reason=str(error)))
                else:
                    # It counts as attempted now, so it comes alone and is judged alone.
                    self._defer(source, lease.batch, 0.0, lease.refusals)
        if readable:
            joined = encoder.join(readable[0].kind, pieces, min(batch.created_at for batch in readable))
            # They stay in flight and go out in this turn: put back, they would wait behind whatever has come meanwhile.
            if source.replace(readable, joined, in_flight=True):
                ready += [Lease(batch) for batch in joined]
        return [lease for lease in ready if not self._is_hopeless(source, lease.batch)]

    def _sifted(self, source: Source, lease: Lease) -> Lease | None:
        """Return what of a lease is still worth sending, None where nothing is."""
        sifted = self.equipment.encoder.sift(lease.batch)
        if sifted is None:
            return lease
        if sifted.batch is None:
            source.acknowledge(lease.batch, sifted.dropped, ())
        elif source.replace([lease.batch], [sifted.batch], in_flight=True):
            return Lease(sifted.batch, lease.attempts, lease.refusals)
        return None

    def _is_request(self, lease: Lease, alone: bool) -> bool:
        """Whether a batch is sent as it is stored: it may be, and joining it with others would not save a request."""
        encoder, batch = self.equipment.encoder, lease.batch
        full = encoder.size(batch) >= FULL_SHARE * encoder.limit.bound or batch.rows >= FULL_SHARE * encoder.max_rows
        return (alone or full) and encoder.is_current(batch)

    def _is_hopeless(self, source: Source, batch: Batch) -> bool:
        """Bury a single row that is larger than what has just been refused; return whether it is one."""
        size = self.equipment.encoder.size(batch)
        if batch.rows > 1 or not self.equipment.encoder.limit.refuses(size):
            return False
        self._bury(source, batch, too_large(size))
        return True

    def _begun(self, route: Route, waiting: deque[Lease]) -> list[Lease]:
        """Take as many of `waiting` as may be sent now at once: one where it is not known whether it will be taken."""
        going: list[Lease] = []
        sound = self._has_delivered and route.last_error is None and route.breaker.state is BreakerState.CLOSED
        most = self.equipment.in_flight if sound and self._is_worth_threads(waiting) else 1
        while waiting and len(going) < most:
            now = time.monotonic()
            if route.ready_at(now) > now:
                break
            encoder = self.equipment.encoder
            sound = sound and encoder.limit.has_taken(encoder.size(waiting[0].batch))
            if going and not sound:
                break
            self._is_barred = not self._may_try(waiting[0].batch)
            if self._is_barred:
                break
            route.begin(now)
            going.append(waiting.popleft())
        return going

    def _is_worth_threads(self, waiting: Sequence[Lease]) -> bool:
        """Whether several requests at once are worth it: not for what has come just now, where answers are quick."""
        oldest = min((lease.batch.created_at for lease in waiting), default=0.0)
        return self._took >= QUICK_SECONDS or time.time() - oldest >= FRESH_SECONDS

    def _may_try(self, batch: Batch) -> bool:
        """Whether a batch may be sent now: not while another process tries whether such a size is taken."""
        encoder = self.equipment.encoder
        if not encoder.limit.may_try(encoder.size(batch)):
            return False
        # What the other has learned may be news.
        if encoder.is_current(batch) and not encoder.limit.refuses(encoder.size(batch)):
            return True
        encoder.limit.tried()
        return False

    def _send(self, leases: Sequence[Lease]) -> list[Outcome]:
        """Send batches at once, the first one on this thread, and return what became of each."""
        began = time.monotonic()
        outcomes = [Outcome(Verdict.RETRY, reason="the request was interrupted") for _ in leases]

        def send(number: int) -> None:
            with suppress_instrumentation():
                outcomes[number] = self._call(leases[number].batch)

        threads = [threading.Thread(target=send, args=(n,), name=THREAD, daemon=True) for n in range(1, len(leases))]
        for number, thread in enumerate(threads, 1):
            try:
                thread.start()
            except RuntimeError:  # the interpreter starts no threads any more
                send(number)
        send(0)
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        self._took = time.monotonic() - began
        return outcomes

    def _settle(self, source: Source, route: Route, lease: Lease, outcome: Outcome) -> None:
        """Deal with a batch by the answer to it."""
        batch, limit = lease.batch, self.equipment.encoder.limit
        answered_at, text, size = time.monotonic(), outcome.reason, self.equipment.encoder.size(batch)
        ours = outcome.verdict is Verdict.REFUSED and not outcome.status
        if batch.encrypted and outcome.reason and not ours:
            # An answer may quote the rows that it refuses, and what is encrypted is not to be found in clear anywhere.
            outcome = replace(outcome, reason="the answer's text is not kept where rows are encrypted")
        if outcome.verdict is Verdict.REFUSED and outcome.status and not self._is_known(source):
            outcome = as_unproven(outcome)
        if outcome.verdict is Verdict.TOO_LARGE:
            limit.refused(size, text)
        match outcome.verdict:
            case Verdict.ACCEPTED:
                self._has_delivered = True
                limit.taken(size)
                outcome = self._acknowledge(source, batch, outcome)
            case Verdict.RETRY:
                # The batch steps aside for a while, so that one that the backend chokes on can't hold up the others.
                self._defer(source, batch, self._delay(lease.attempts + 1), lease.refusals)
            case Verdict.MISCONFIGURED if not outcome.is_final:
                self._defer(source, batch, 0.0, lease.refusals)
            case Verdict.PARTIAL if lease.refusals + 1 < self.equipment.retry.attempts:
                pause = max(self._delay(lease.refusals + 1), outcome.retry_after or 0.0)
                self._defer(source, batch, pause, lease.refusals + 1)
            case Verdict.TOO_LARGE | Verdict.REFUSED if batch.rows > 1 and not outcome.is_final:
                self._split(source, batch, outcome)
            case _:
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

    def _acknowledge(self, source: Source, batch: Batch, outcome: Outcome) -> Outcome:
        """Say that a batch is delivered; of the rows that the backend has not kept, those that are known die."""
        receipt = self.equipment.encoder.receipt(batch, outcome, batch.batch_id in self._unanswered)
        outcome = receipt.outcome
        if outcome.rejected and outcome.reason:
            log_once(
                _logger,
                logging.WARNING,
                f"the {self.equipment.whose} backend does not keep all {batch.kind} that it takes: {outcome.reason}",
                cause=f"the {self.equipment.whose} backend rejects {batch.kind} as {', '.join(outcome.rejected)}",
            )
        letters = [DeadLetter(part, outcome.status, outcome.reason, time.time()) for part in receipt.letters]
        source.acknowledge(batch, receipt.dropped, letters)
        return outcome

    def _call(self, batch: Batch) -> Outcome:
        try:
            return self.equipment.transport.send(batch, self.give_up_at - time.monotonic())
        except BaseException as error:
            self._pass_on(error)
            what = f"the transport raised {type(error).__name__}"
            log_once(_logger, logging.ERROR, f"{what}: {error}. Rows are kept, and come again", cause=what)
            _logger.debug("%s", what, exc_info=error)
            return Outcome(Verdict.RETRY, reason=f"{what}: {error}"[:300])

    def _is_known(self, source: Source) -> bool:
        """Whether it is the Guard backend that answers: only its refusals are verdicts on rows."""
        return self._has_delivered or source.has_delivered() or self.equipment.is_known()

    def _delay(self, failures: int) -> float:
        return self.equipment.retry.delay(failures)

    def _defer(self, source: Source, batch: Batch, seconds: float, refusals: int) -> None:
        source.defer(batch, seconds, refusals)
        heapq.heappush(self.due, time.monotonic() + seconds)

    def _split(self, source: Source, batch: Batch, outcome: Outcome) -> None:
        """Put in the place of a batch those that its rows make under the limit, each with a `batch_id` of its own.

        Where it is within the limit, they are its two halves.
        """
        try:
            parts = self.equipment.encoder.split(batch)
        except ValueError as error:
            self._bury(source, batch, Outcome(outcome.verdict, outcome.status, f"{outcome.reason} ({error})"))
            return
        source.replace([batch], parts)

    def _bury(self, source: Source, batch: Batch, outcome: Outcome) -> None:
        log_once(
            _logger,
            logging.WARNING,
            f"the {self.equipment.whose} backend refuses {batch.kind} for good; they are kept as dead letters. "
            f"The first: {outcome.status} {outcome.reason[:200]}",
            cause=f"dead letters of the {self.equipment.whose} backend with status {outcome.status}",
        )
        _logger.debug("dead letter: batch %s, %d rows, %d", batch.batch_id, batch.rows, outcome.status)
        source.replace([batch], [], [DeadLetter(batch, outcome.status, outcome.reason, time.time())])
