"""What the three exporters have in common: settings, the shared delivery, and an export that never raises.

Settings may arrive when the exporters exist already (`opentelemetry_guard.settings.late`). All connections
then move together: those that share a delivery go on sharing one, with what is in its queues.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Sequence
from itertools import count
from typing import Any

from opentelemetry.sdk.environment_variables import OTEL_SDK_DISABLED
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from ..delivery import registry
from ..delivery.delivery import Delivery
from ..events.codec import EncodedRow, Row
from ..events.origin import Origin, origin_of
from ..events.tally import DISABLED, TALLY
from ..process import children as process_children
from ..queue.base import DeliveryQueue, Kind
from ..queue.url import check_queue_url
from ..settings import late
from ..settings.delivery import DEFAULT_ENDPOINT, GuardConfig
from ..settings.once import log_once
from ..settings.setting import SettingError
from .self_metrics import SelfMetrics

_logger = logging.getLogger(__name__)


_moving = threading.RLock()  # held while a connection is made, and while all of them move
_numbers = count()
_connections: weakref.WeakValueDictionary[int, Connection] = weakref.WeakValueDictionary()  # in order; under _moving


class Connection:
    """One exporter's hold on the delivery that it shares.

    `delivery` is None where a wrong environment variable has switched Guard
    export off, or where the whole SDK is disabled: the exporter then takes
    rows, counts them as dropped, and does nothing else.
    """

    def __init__(self, user: str, queue: DeliveryQueue | None, settings: dict[str, object]) -> None:
        """Connect the exporter of the signal `user`.

        Raises:
            SettingError: a keyword argument has a value that it can't have.
        """
        self._user = user
        self._queue = queue
        self._settings = settings
        self._config: GuardConfig | None = None
        self._released = False
        self.delivery: Delivery | None = None
        self._origin: Origin | None = None
        self._self_metrics = SelfMetrics(user, DEFAULT_ENDPOINT)
        process_children.follow()
        with _moving:
            self._connect(queue, settings)
            _connections[next(_numbers)] = self

    def _connect(self, queue: DeliveryQueue | None, settings: dict[str, object]) -> None:
        user = self._user
        try:
            config = GuardConfig.resolve(**settings)
            self._self_metrics = SelfMetrics(user, config.endpoint)
            if queue is None and config.queue_url is not None:
                _check(config.queue_url, from_environment=not settings.get("queue_url"))
            if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() != "true":
                self.delivery = _acquire(config, user, queue, from_environment=not settings.get("queue_url"))
                self._config = config
                if not self.delivery.service:
                    # What the environment says of it is mostly all, and the first report comes before the first row.
                    self.belong_to(OTELResourceDetector().detect())
        except SettingError as error:
            if not error.from_environment:
                raise
            problem = f"Guard export is switched off: {error}"
            registry.switched_off(self, problem)
            log_once(_logger, logging.ERROR, problem)

    def submit(self, kind: Kind, rows: Sequence[Row | EncodedRow]) -> bool:
        """Hand rows to the delivery; return whether it has taken them."""
        if self.delivery is None:
            with self._self_metrics.operation(len(rows)) as operation:
                operation.error_type = DISABLED
            TALLY.drop(kind, DISABLED, len(rows))
            return False
        with self._self_metrics.operation(len(rows)):
            self.delivery.submit(kind, rows)
        return True

    def belong_to(self, resource: Resource | None) -> None:
        """Let status reports say whose delivery it is."""
        delivery, origin = self.delivery, origin_of(resource)
        if delivery is not None and self._origin is not origin:
            self._origin = origin
            delivery.service = origin.service

    def ever_shared_delivery_with(self, user: str) -> bool:
        """Whether the exporter of the signal `user` hands its rows to the same delivery, or did until its shutdown."""
        return self.delivery is not None and registry.had_user(self.delivery, user)

    def flush(self, timeout_millis: float) -> bool:
        """Send what can be sent within `timeout_millis` milliseconds; return whether nothing is left to send."""
        return self.delivery is None or self.delivery.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float) -> None:
        """Give the delivery back, within `timeout_millis` milliseconds; a second call does nothing."""
        released, self._released = self._released, True
        registry.switched_off(self, None)
        if self.delivery is not None and not released:
            registry.release(self.delivery, self._user, timeout_millis / 1000)

    def destined(self) -> GuardConfig | None:
        """Return the settings that this connection has by now, None where it has no delivery."""
        if self.delivery is None or self._released:
            return None
        return GuardConfig.resolve(**self._settings)

    def differs_from(self, config: GuardConfig) -> bool:
        """Whether the settings that this connection was made or moved with are others."""
        return self._config != config

    def leads(self) -> bool:
        """Whether the delivery's settings are this connection's."""
        return self.delivery is not None and self._config == self.delivery.config

    def settle(self, delivery: Delivery, config: GuardConfig) -> None:
        """Hand rows to `delivery` from now on."""
        self._config = config
        if self.delivery is not delivery:
            self._self_metrics = SelfMetrics(self._user, config.endpoint)
            self.delivery = delivery

    def branch_off(self, config: GuardConfig) -> None:
        """Go to a delivery of `config`'s destination, while others stay with the one of before."""
        former = self.delivery
        delivery = registry.acquire(config, self._user, self._queue)
        self.settle(delivery, config)
        if former is not None:
            registry.leave(former, self._user)


class GuardExporter:
    """What the three exporters do alike with their connection."""

    _connection: Connection

    @property
    def delivery(self) -> Delivery | None:
        """The delivery that this exporter shares, with its `stats()` and its `queue`; None while export is off."""
        return self._connection.delivery

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Send what can be sent within `timeout_millis` milliseconds; return whether nothing is left to send."""
        return self._connection.flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Flush, and leave the rest in the queue for the next start.

        The SDK's readers name their time limit `timeout` (milliseconds too).
        """
        self._connection.shutdown(min(timeout_millis, kwargs.get("timeout", timeout_millis)))


def _follow_late_settings() -> None:
    """Move the connections whose settings are others by now. It waits for no request that is under way."""
    with _moving:
        sharing: dict[int, list[tuple[Connection, GuardConfig]]] = {}
        for connection in list(_connections.values()):
            if (config := connection.destined()) is not None:
                sharing.setdefault(id(connection.delivery), []).append((connection, config))
        for group in sharing.values():
            try:
                _move_together(group)
            except ValueError as error:
                # A well-formed URL may still name a store that can't be loaded.
                log_once(
                    _logger, logging.ERROR, f"the queue_url that came late can't be used, the old queue is: {error}"
                )


def _move_together(group: Sequence[tuple[Connection, GuardConfig]]) -> None:
    """Move the connections of one delivery, and the delivery with them.

    Where some of them lead elsewhere, since they have settings of their own
    in code, the delivery goes with the one that it has its settings from.
    """
    delivery = group[0][0].delivery
    if delivery is None or not any(connection.differs_from(config) for connection, config in group):
        return
    leading = next((config for connection, config in group if connection.leads()), group[0][1])
    together = [pair for pair in group if pair[1].destination == leading.destination]
    for connection, config in group:
        if config.destination != leading.destination:
            connection.branch_off(config)
    if leading != delivery.config:
        delivery = registry.move(delivery, leading)
    for connection, config in together:
        connection.settle(delivery, config)


late.subscribe(_follow_late_settings)


def _after_fork_in_child() -> None:
    global _moving
    _moving = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _check(queue_url: str, *, from_environment: bool) -> None:
    try:
        check_queue_url(queue_url)
    except ValueError as error:
        raise _wrong_queue_url(error, from_environment) from None


def _acquire(config: GuardConfig, user: str, queue: DeliveryQueue | None, *, from_environment: bool) -> Delivery:
    try:
        return registry.acquire(config, user, queue)
    except ValueError as error:
        # A well-formed URL may still name a store that can't be loaded, or that refuses it.
        raise _wrong_queue_url(error, from_environment) from error


def _wrong_queue_url(error: ValueError, from_environment: bool) -> SettingError:
    name = "OTEL_EXPORTER_GUARD_QUEUE_URL" if from_environment else "queue_url"
    return SettingError(f"{name} can't be used: {error}", from_environment=from_environment)
