"""Queues of OTLP requests, as the command line meets them: whose they are, what is in them, and who empties them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from ..queue.base import Batch, DeliveryQueue
from ..settings.durable import PREFIX, DurableConfig
from ..settings.otlp import SIGNALS, Signal
from ..settings.setting import SettingError
from .output import fail

if TYPE_CHECKING:
    from ..durable.delivery import OtlpDelivery

EXPORTER = "otlp_durable"
"""The exporters' name in ``OTEL_TRACES_EXPORTER`` and its siblings."""


def destinations() -> dict[str, DurableConfig]:
    """Return the settings of the environment by destination; signals may share one."""
    found: dict[str, DurableConfig] = {}
    for signal in SIGNALS:
        with suppress(SettingError):
            config = DurableConfig.of(signal)
            found.setdefault(config.destination, config)
    return found


def signals_in_use(environ: Mapping[str, str]) -> list[Signal]:
    """Return the signals whose variable names the durable exporter."""
    return [
        signal
        for signal in SIGNALS
        if EXPORTER in {name.strip() for name in environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").split(",")}
    ]


def delivery_of(queue: DeliveryQueue, destination: str) -> OtlpDelivery:
    """Return what delivers a queue; fail where the environment's settings are of another receiver or tenant."""
    from ..durable.delivery import OtlpDelivery

    if (config := destinations().get(destination)) is None:
        fail(
            "The environment leads to another receiver or tenant than this queue is for: set "
            f"OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_HEADERS (or {PREFIX}TENANT) as the service has them."
        )
    return OtlpDelivery(config, queue)


def content(batch: Batch) -> object:
    """Return a batch's request as JSON has it.

    Raises:
        ValueError: it can't be read.
    """
    from google.protobuf.json_format import MessageToDict

    from ..delivery.envelope import Envelope
    from ..durable.requests import Requests

    key = DurableConfig.of("traces").encryption_key
    return MessageToDict(Requests(envelope=Envelope(key) if key else None).message(batch))
