"""The SDK's metrics about its own exporters, for ours: ``otel.sdk.exporter.*``.

They are in development, and off unless ``OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED`` is ``true``. Source: OpenTelemetry
semantic conventions, "OpenTelemetry SDK metrics". An item has been exported
when it is in the queue, which outlives the process; what becomes of it after
that is told by ``guard.delivery.*``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from opentelemetry.metrics import Counter, Histogram, UpDownCounter, get_meter
from opentelemetry.sdk.environment_variables import OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED
from opentelemetry.semconv._incubating.attributes.otel_attributes import OTEL_COMPONENT_NAME, OTEL_COMPONENT_TYPE
from opentelemetry.semconv._incubating.metrics import otel_metrics
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT

_CREATE = {
    "logs": (
        otel_metrics.create_otel_sdk_exporter_log_exported,
        otel_metrics.create_otel_sdk_exporter_log_inflight,
    ),
    "traces": (
        otel_metrics.create_otel_sdk_exporter_span_exported,
        otel_metrics.create_otel_sdk_exporter_span_inflight,
    ),
    "metrics": (
        otel_metrics.create_otel_sdk_exporter_metric_data_point_exported,
        otel_metrics.create_otel_sdk_exporter_metric_data_point_inflight,
    ),
}


@dataclass(slots=True)
class Operation:
    """One export; set `error_type` where it failed."""

    error_type: str | None = None


class SelfMetrics:
    """Counts what one exporter was given."""

    def __init__(self, signal: str, endpoint: str) -> None:
        self._attributes: Mapping[str, str | int] = {}
        self._exported: Counter | None = None
        self._inflight: UpDownCounter | None = None
        self._duration: Histogram | None = None
        if os.environ.get(OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED, "").strip().lower() != "true":
            return
        meter = get_meter("opentelemetry-sdk")
        create_exported, create_inflight = _CREATE[signal]
        self._exported = create_exported(meter)
        self._inflight = create_inflight(meter)
        self._duration = otel_metrics.create_otel_sdk_exporter_operation_duration(meter)
        url = urlsplit(endpoint)
        self._attributes = {
            OTEL_COMPONENT_TYPE: f"guard_{signal}_exporter",
            OTEL_COMPONENT_NAME: f"guard_{signal}_exporter/0",
            SERVER_ADDRESS: url.hostname or "",
            SERVER_PORT: url.port or (443 if url.scheme == "https" else 80),
        }

    @contextmanager
    def operation(self, items: int) -> Iterator[Operation]:
        """Measure one export of `items` items; each counts once, with ``error.type`` where it failed."""
        result = Operation()
        if self._exported is None or self._inflight is None or self._duration is None:
            yield result
            return
        began = time.perf_counter()
        self._inflight.add(items, self._attributes)
        try:
            yield result
        except BaseException as error:
            result.error_type = type(error).__qualname__
            raise
        finally:
            self._inflight.add(-items, self._attributes)
            failed = {ERROR_TYPE: result.error_type} if result.error_type else {}
            self._exported.add(items, {**self._attributes, **failed})
            self._duration.record(time.perf_counter() - began, {**self._attributes, **failed})
