"""The delivery to a Guard backend: everything between an exporter and the backend, one per process and destination.

Exporters hand over rows; the delivery writes them ahead to its queue and
returns. Its sender delivers them from there.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..decision.unenforced import unenforced, watch
from ..events.codec import EncodedRow, Row
from ..events.tally import SWITCHED_OFF, TALLY
from ..process.usage import usage
from ..queue.base import KINDS, Batch, DeliveryQueue, Kind
from ..queue.memory import MemoryQueue
from ..settings.delivery import GuardConfig
from .body_limit import BodyLimit
from .breaker import BreakerState
from .calls import Call, tell
from .carrier import Carrier
from .control import REPORTS
from .encoder import Encoder
from .outcome import Outcome, Verdict
from .repeats import Repeats
from .reporter import StatusReporter
from .route import RouteName
from .stats import DeliveryStats
from .stores import options_of
from .transport import HTTPTransport, Transport
from .wire import GUARD

if TYPE_CHECKING:
    from ..models import AgentStatus
    from .event_log import EventLog
    from .status import Trends

PROBE_SECONDS = 5.0
"""Seconds that the question may take who it is that refuses rows before anything was accepted."""


class Delivery(Carrier[GuardConfig]):
    """Delivers rows to one destination.

    `_lock` guards `_states` and is held for dictionary
    operations only. The parts that depend on settings are each replaced as a
    whole (`reconfigure`): a `submit` that meets some of before and some of
    after leaves a batch that is sent all the same, since every queue there was
    stays among the sender's and a batch that names no project is encoded again.
    """

    wire = GUARD
    _sending: Transport
    _encoder: Encoder

    def __init__(self, config: GuardConfig, queue: DeliveryQueue | None = None) -> None:
        """Make a delivery; nothing is opened and no thread is started yet.

        Args:
            config: the settings.
            queue: a store of the user's own, in the place of the one that `config.queue_url` names.

        Raises:
            ValueError: `config.queue_url` names no store that there is.
        """
        self._made_at = time.monotonic()
        self._flushed_at: float | None = None
        self._rejection = (float("-inf"), "")  # when the backend last didn't keep what it took (monotonic), and why
        self._custom_transport: Transport | None = None
        self._is_known = False
        self._reporter: StatusReporter | None = None
        self._successor: Delivery | None = None
        self.service: dict[str, str] = {}
        """Whose it is, for status reports; replaced as a whole."""
        self._reset()
        super().__init__(config, queue)
        # A child that is forked while another thread imports something waits for that forever.
        self._event_log()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._repeats = Repeats()
        self._states: dict[str, tuple[BreakerState, bool]] = {}
        self._trends: Trends | None = None
        self._sent: Counter[str] = Counter()  # by kind; the sender's thread alone adds to it

    def _new_sending(self) -> Transport:
        return HTTPTransport(self.config)

    def _new_encoder(self, limit: BodyLimit) -> Encoder:
        return Encoder.of(self.config, limit)

    def start(self) -> None:
        """Start the sender, which sends at once what an earlier process has left in the queue, and the reports."""
        super().start()
        if self._reporter is None and self.config.status_interval and self.can_call:
            self._reporter = StatusReporter(
                lambda: self.config.status_interval,
                self.status,
                lambda: (self._custom_transport, self.config.destination),
                lambda: self._sending,
                lambda: self._routes["status"],
                REPORTS,
            )
            self._reporter.start()
            watch(self._reporter.state_may_have_changed)

    def reconfigure(self, config: GuardConfig) -> None:
        """Go by other settings from now on; what is not delivered yet goes where they say.

        Nothing is waited for: a request that is under way ends by the old
        settings. The queues of before stay, until the end, beside the new one.

        Raises:
            ValueError: `config.queue_url` names no store that there is; nothing has changed then.
        """
        self._stores.reconfigure(self.config, config)
        if self._custom_transport is None:
            # Before the settings change: whoever reads the new destination finds what leads to it.
            self._sending = HTTPTransport(config)
        self.config = config
        # The shortest there was: the queues of before have theirs.
        self._lease_seconds = min(self._lease_seconds, options_of(config).lease_seconds)
        self._metrics.follow(config.endpoint, config.destination)
        self._encoder = self._new_encoder(self._new_limit())
        self._start_over()

    def use_transport(self, transport: Transport | None) -> None:
        """Make all calls of this destination through `transport` from now on; None is HTTP again.

        A request that is under way ends where it was begun. A transport that
        is not ours needs no API key.
        """
        self._sending = HTTPTransport(self.config) if transport is None else transport
        self._custom_transport = transport
        self._start_over()

    def _start_over(self) -> None:
        """Use the parts there are now; what stood in the way of a request before is of no account any more."""
        self._routes = self._new_routes()
        self._is_known = False
        self._sender.equip(self._equipment())
        if self._reporter is not None:
            if self.config.status_interval and self.can_call:
                self._reporter.settings_changed()
            else:
                self._withdraw_reporter()
        if not self.closed:
            self.start()

    def _withdraw_reporter(self) -> None:
        if self._reporter is not None:
            self._reporter.withdraw()
            self._reporter = None

    def hand_over(self, successor: Delivery) -> None:
        """Leave everything to the delivery of a destination that this one's settings have come to name too.

        It returns at once; the successor has the queues as soon as a request that is under way has ended.
        """
        self._withdraw_reporter()
        if self._custom_transport is not None and successor._custom_transport is None:
            successor.use_transport(self._custom_transport)
        self._repeats.tell(successor._repeats)
        self._successor = successor
        self._sender.end(lambda: successor._inherit(self._stores.all))

    def _inherit(self, queues: Sequence[DeliveryQueue]) -> None:
        self._stores.inherit(queues)
        self._sender.equip(self._equipment())

    def _ask_whether_known(self) -> bool:
        """Return whether it is the Guard backend that answers: nobody else takes a status report."""
        if not self._is_known:
            outcome = self._sending.send_status(self.status(), PROBE_SECONDS)
            self._is_known = outcome.verdict is Verdict.ACCEPTED
        return self._is_known

    @property
    def transport(self) -> Transport:
        """What makes the calls of this destination now."""
        return self._sending

    @property
    def can_call(self) -> bool:
        """Whether there is an API key, or a transport that may not need one."""
        return bool(self.config.api_key) or self._custom_transport is not None

    def submit(self, kind: Kind, rows: Sequence[Row | EncodedRow]) -> None:
        """Write rows ahead to the queue, and return; they are accepted now, and delivered soon.

        Events whose `idempotency_key` was submitted before are left out; the
        others are written to the event log, where there is one. It never raises
        for a store that fails: rows then wait in memory, bounded.
        """
        if self._successor is not None:
            self._successor.submit(kind, rows)
            return
        if kind == "events":
            rows = self._repeats.without(rows)
            if (file := self._event_log()) is not None:
                file.write(rows)
        if not (self.config.enable_events if kind == "events" else self.config.enable_metrics):
            TALLY.drop(kind, SWITCHED_OFF, len(rows))
            return
        self.write_ahead(self._encoder.encode(kind, rows))
        if rows and not self.closed:
            REPORTS.ensure()

    def _event_log(self) -> EventLog | None:
        if self.config.event_log is None:
            return None
        # Imported here: nearly nobody has one.
        from .event_log import event_log

        return event_log(self.config)

    def _close_others(self, deadline: float) -> None:
        if self._reporter is not None:
            # Before the stores are closed, which it reads; in what is left of the time for sending.
            self._reporter.stop(deadline - time.monotonic())
            self._reporter = None

    def stats(self) -> DeliveryStats:
        """Return one reading of the ledger, the depth, the routes, this process's counts and its event log.

        A store that can't be read now is left out, and `unreadable` says why.
        """
        file = self._event_log()
        return replace(super().stats(), event_log=None if file is None else file.stats)

    def status(self) -> AgentStatus:
        """Return how the delivery is doing, in the words of `AgentStatus`; `errors` says what a person can do."""
        # Imported here: pydantic is loaded for nobody who only delivers.
        from .status import LATELY_SECONDS, Reading, Trends, assess

        stats = self.stats()
        now = time.monotonic()
        if died := self._sender.has_died:
            self._sender.wake()
        with self._lock:
            if self._trends is None:
                self._trends = Trends(fresh=isinstance(self.queue, MemoryQueue))
            dropped, refused, lost = self._trends.rises(stats, now)
        status = assess(
            Reading(
                stats,
                time.time(),
                now - self._made_at,
                self._flushed_at,
                self.can_call,
                self._stores.is_writable,
                self.config.queue_max_bytes,
                dropped,
                refused,
                lost,
                unenforced(),
                died,
                self._rejection[1] if now - self._rejection[0] < LATELY_SECONDS else None,
            )
        )
        status.service = dict(self.service)
        status.resources = usage()
        return status

    def _observe(self, route: RouteName, seconds: float, outcome: Outcome, batch: Batch | None) -> None:
        """Note one request: for the metrics, the reporter (where the route is in another state now) and observers."""
        super()._observe(route, seconds, outcome, batch)
        if route in KINDS and outcome.verdict is Verdict.ACCEPTED:
            self._flushed_at = time.time()
            if batch is not None:
                self._sent[route] += max(0, batch.rows - sum(outcome.rejected.values()))
            if outcome.rejected:
                self._rejection = (time.monotonic(), outcome.reason)
        if route == "status" and outcome.verdict is Verdict.ACCEPTED:
            self._is_known = True
        state = (self._routes[route].breaker.state, outcome.verdict in (Verdict.RETRY, Verdict.MISCONFIGURED))
        with self._lock:
            changed = self._states.get(route) not in (None, state) or (route not in self._states and state[1])
            self._states[route] = state
        if changed and self._reporter is not None:
            self._reporter.state_may_have_changed()
        tell(Call(self.config.destination, route, outcome, seconds, batch))

    @property
    def sent(self) -> Mapping[Kind, int]:
        """Rows by kind that this process has sent, and the backend has kept."""
        return {kind: self._sent[kind] for kind in KINDS}

    def _observed_stats(self) -> DeliveryStats | None:
        return None if self._successor is not None else super()._observed_stats()

    def after_fork_in_child(self) -> None:
        """Begin anew in a forked child: its own locks, thread and connections, and none of the parent's rows."""
        self._reset()
        super().after_fork_in_child()
