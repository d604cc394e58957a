"""What the three durable exporters have in common: settings, the shared delivery, and an export that never raises."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from opentelemetry.sdk.environment_variables import OTEL_SDK_DISABLED

from ..delivery import registry
from ..events.tally import DISABLED, TALLY
from ..process import children as process_children
from ..queue.base import DeliveryQueue, Kind
from ..settings.durable import PREFIX, DurableConfig
from ..settings.once import log_once
from ..settings.setting import SettingError
from .delivery import OtlpDelivery
from .forms import FORMS

_logger = logging.getLogger(__name__)

ENCODING_ERROR = "encoding_error"
"""Reason: the SDK's encoder raised for a batch."""


class DurableExporter:
    """One exporter's hold on the delivery that those of a destination share.

    There is none where a wrong environment variable has switched the export
    off, or where the whole SDK is disabled: the exporter then takes what it
    is given, counts it as dropped, and does nothing else.
    """

    _kind: Kind

    def _connect(self, queue: DeliveryQueue | None, settings: dict[str, object]) -> None:
        """Connect the exporter.

        Raises:
            SettingError: a keyword argument has a value that it can't have.
            TypeError: there is no such setting.
        """
        self._delivery: OtlpDelivery | None = None
        self._user = f"OTLP {self._kind}"
        self._released = False
        if "max_bytes" in settings:
            settings["queue_max_bytes"] = settings.pop("max_bytes")
        process_children.follow()
        if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
            return
        try:
            config = DurableConfig.of(FORMS[self._kind].signal, **settings)
            self._delivery = _share(config, self._user, queue, from_environment=not settings.get("queue_url"))
            self._delivery.use_headers(self._kind, config.headers)
        except SettingError as error:
            if not error.from_environment:
                raise
            problem = f"the durable export of {FORMS[self._kind].signal} is switched off: {error}"
            registry.switched_off(self, problem)
            log_once(_logger, logging.ERROR, problem)

    def _submit(self, rows: int, encode: Callable[[], Message]) -> bool:
        """Hand what `encode` returns to the delivery; return whether it has taken it."""
        if self._delivery is None:
            TALLY.drop(self._kind, DISABLED, rows)
            return False
        try:
            message = encode()
        except Exception as error:  # noqa: BLE001  whatever a user's attribute makes the encoder raise
            self._lose(self._delivery, rows, error)
            return False
        self._delivery.submit(self._kind, message)
        return True

    def _lose(self, delivery: OtlpDelivery, rows: int, error: Exception) -> None:
        from ..privacy import told  # here: it loads the models, which nobody needs while nothing fails

        what = f"{rows} {self._kind} can't be encoded and are dropped: {told(error)}"
        log_once(_logger, logging.ERROR, what, cause=f"{self._kind} can't be encoded")
        try:
            delivery.queue.account(self._kind, rows, ENCODING_ERROR)
        except Exception:  # noqa: BLE001  a user's own store may raise anything
            TALLY.drop(self._kind, ENCODING_ERROR, rows)

    @property
    def delivery(self) -> OtlpDelivery | None:
        """The delivery that this exporter shares, with its `stats()` and its `queue`; None while export is off."""
        return self._delivery

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Send what can be sent within `timeout_millis` milliseconds; return whether nothing is left to send."""
        return self._delivery is None or self._delivery.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Flush, and leave the rest in the queue for the next start.

        The SDK's readers name their time limit `timeout` (milliseconds too).
        """
        released, self._released = self._released, True
        registry.switched_off(self, None)
        if self._delivery is not None and not released:
            left = min(timeout_millis, kwargs.get("timeout", timeout_millis))
            registry.release(self._delivery, self._user, left / 1000)


def _share(config: DurableConfig, user: str, queue: DeliveryQueue | None, *, from_environment: bool) -> OtlpDelivery:
    try:
        return registry.share(OtlpDelivery, config, user, queue)
    except ValueError as error:
        name = f"{PREFIX}QUEUE_URL" if from_environment else "queue_url"
        raise SettingError(f"{name} can't be used: {error}", from_environment=from_environment) from error
