"""What the three exporters have in common: settings, the shared delivery, and an export that never raises."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from opentelemetry.sdk.environment_variables import OTEL_SDK_DISABLED

from ..codec import Row
from ..config import DEFAULT_ENDPOINT, GuardConfig, SettingError
from ..delivery import registry
from ..delivery.delivery import Delivery
from ..once import log_once
from ..queue.base import DeliveryQueue, Kind
from ..queue.url import check_queue_url
from ..tally import DISABLED, TALLY
from .self_metrics import SelfMetrics

_logger = logging.getLogger(__name__)


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
        self._released = False
        self.delivery: Delivery | None = None
        self._self_metrics = SelfMetrics(user, DEFAULT_ENDPOINT)
        try:
            config = GuardConfig.resolve(**settings)
            self._self_metrics = SelfMetrics(user, config.endpoint)
            if queue is None and config.queue_url is not None:
                _check(config.queue_url, from_environment=not settings.get("queue_url"))
            if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() != "true":
                self.delivery = _acquire(config, user, queue, from_environment=not settings.get("queue_url"))
        except SettingError as error:
            if not error.from_environment:
                raise
            log_once(_logger, logging.ERROR, f"Guard export is switched off: {error}")

    def submit(self, kind: Kind, rows: Sequence[Row]) -> bool:
        """Hand rows to the delivery; return whether it has taken them."""
        if self.delivery is None:
            with self._self_metrics.operation(len(rows)) as operation:
                operation.error_type = DISABLED
            TALLY.drop(kind, DISABLED, len(rows))
            return False
        with self._self_metrics.operation(len(rows)):
            self.delivery.submit(kind, rows)
        return True

    def ever_shared_delivery_with(self, user: str) -> bool:
        """Whether the exporter of the signal `user` hands its rows to the same delivery, or did until its shutdown."""
        return self.delivery is not None and registry.had_user(self.delivery, user)

    def flush(self, timeout_millis: float) -> bool:
        """Send what can be sent within `timeout_millis` milliseconds; return whether nothing is left to send."""
        return self.delivery is None or self.delivery.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float) -> None:
        """Give the delivery back, within `timeout_millis` milliseconds; a second call does nothing."""
        if self.delivery is not None and not self._released:
            self._released = True
            registry.release(self.delivery, self._user, timeout_millis / 1000)


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
