"""Put security events and metrics into OpenTelemetry.

A `SecurityEvent` becomes a log record and, where a span records, a span event;
a `SecurityMetric` becomes a measurement on an instrument. Nothing here knows
an exporter: whoever has another OpenTelemetry pipeline sees the same data
there. Nothing here raises into its caller, and nothing blocks on I/O.

Example:
    >>> from opentelemetry_guard import emit_event, record_metric
    >>> emit_event(event_type="custom_rule_triggered", ip_address="192.0.2.7", action_taken="logged")
    >>> record_metric(metric_type="cache_hit_rate", value=0.97, tags={"cache": "sessions"})
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import lru_cache

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider, SeverityNumber, get_logger_provider
from opentelemetry.metrics import Counter, Histogram, Meter, MeterProvider, get_meter_provider

from . import privacy, semconv
from .events import codec, counts, diverted, incident, record, sifting, signatures
from .events.enrichment import enrich
from .events.jsonsafe import describe, safe_text
from .events.known import meaning_of
from .events.tally import EMISSION_ERROR, INVALID, NO_PIPELINE, TALLY
from .instruments import INSTRUMENTS
from .models import SecurityEvent, SecurityMetric
from .privacy.plain import SPEAKABLE, UNCERTAIN, Verdict
from .process import interruption
from .settings.once import log_once
from .version import __version__

_logger = logging.getLogger(__name__)

_METRIC_FIELDS = tuple(SecurityMetric.model_fields)
_ERROR_FROM, _INFO_UNTIL = 7, 1
_EXACT = 2**53
"""Integers up to here are exact as floats too."""


@lru_cache(maxsize=1024)
def severity_of(event_type: str) -> tuple[SeverityNumber, str]:
    """Return a log record's severity number and text: ERROR for attacks and failures, INFO for routine, else WARN.

    Where the severity of a type is from 0 to 10 (`events.known`), ERROR begins at 7 and INFO ends at 1.
    """
    severity = meaning_of(event_type).severity
    if severity >= _ERROR_FROM:
        return SeverityNumber.ERROR, "ERROR"
    if severity <= _INFO_UNTIL:
        return SeverityNumber.INFO, "INFO"
    return SeverityNumber.WARN, "WARN"


class _Meters:
    """The instruments of one MeterProvider."""

    def __init__(self, provider: MeterProvider) -> None:
        self.provider = provider
        # The API's own providers (no-op, and the proxy before an SDK is set) measure nothing.
        self.records = not type(provider).__module__.startswith("opentelemetry.metrics")
        meter: Meter = provider.get_meter(semconv.SCOPE_NAME, __version__)
        self.events: counts.Counts | None = None
        self.requests: counts.Counts | None = None
        if self.records:
            self.events = counts.counts(
                provider,
                semconv.SECURITY_EVENTS_COUNTER,
                "{event}",
                "Security events emitted, by type and action",
                lambda attributes: attributes,  # of a cleaned event
            )
            self.requests = counts.counts(
                provider, semconv.GUARD_REQUESTS, "{request}", "Requests, by whether they were blocked", _clean_route
            )
        self.counters: dict[str, Counter] = {}
        self.histograms: dict[str, Histogram] = {}
        for metric_type, spec in INSTRUMENTS.items():
            if spec.adds_up:
                self.counters[metric_type] = meter.create_counter(spec.name, spec.unit, spec.description)
            else:
                self.histograms[metric_type] = meter.create_histogram(
                    spec.name, spec.unit, spec.description, explicit_bucket_boundaries_advisory=spec.buckets
                )


class Emitter:
    """Emits into the given providers, or into the global ones where none is given.

    The global providers are looked up at every call, so an emitter may be
    made before OpenTelemetry is configured; what it makes of a provider
    (logger, tracer, instruments) is kept until the provider changes.

    .. versionadded:: 1.0
    """

    def __init__(
        self,
        logger_provider: LoggerProvider | None = None,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._logger_provider = logger_provider
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        # Each is replaced whole, never changed, so that threads may race here and still read a consistent pair.
        self._logger: tuple[LoggerProvider, record.Takes, record.Emit] | None = None
        self._meters: _Meters | None = None

    def emit_event(self, event: SecurityEvent | Mapping[str, object] | None = None, /, **fields: object) -> None:
        """Emit one security event; see `emit_event`."""
        interruption.emit("events", self._emit_event, event, fields)

    def record_metric(self, metric: SecurityMetric | Mapping[str, object] | None = None, /, **fields: object) -> None:
        """Record one security metric; see `record_metric`."""
        interruption.emit("metrics", self._record_metric, metric, fields)

    def count_request(self, route: str | None, *, blocked: bool) -> None:
        """Count a request; the share of blocked ones is delivered as `block_rate`.

        Args:
            route: the template of its route, None where it has none.
            blocked: whether it was answered with 400 or above, and made an event that stopped something.
        """
        meters = self._current_meters()
        if meters.requests is not None:
            outcome = (semconv.GUARD_BLOCKED, blocked)
            meters.requests.add((outcome,) if route is None else ((semconv.HTTP_ROUTE, route), outcome))

    def _emit_event(self, event: object, fields: dict[str, object]) -> None:
        TALLY.emit("events")
        clean = privacy.current()
        whole = codec.whole(event, fields)
        verdict = UNCERTAIN if whole is None else clean.judge(whole[0], dated=whole[1] is not None)
        if whole is not None and verdict:
            row, nanoseconds = codec.as_row(*whole)
            client = None
        else:
            made = self._cleaned(event, fields, clean)
            if made is None:
                return
            row, nanoseconds, client = made
        enrich(row, hashed_client=client)
        incident.note(row)
        if (capture := diverted.current()) is not None:
            capture.event(row)
            return
        event_type: str = row["event_type"]  # type: ignore[assignment]
        # Each signal on its own: a processor that raises in one must not cost the other.
        logged = recorded = None
        span = trace.get_current_span()
        try:
            logged = self._log(row, nanoseconds, event_type, span, clean, verdict)
        except Exception as error:  # noqa: BLE001  processors are anybody's code
            _complain(error)
        try:
            recorded = self._record_on_span(row, nanoseconds, span, logged)
        except Exception as error:  # noqa: BLE001  processors and samplers are anybody's code
            _complain(error)
        try:
            events = self._current_meters().events
            if events is not None:
                action: str = row.get("action_taken") or ""  # type: ignore[assignment]
                events.add(((semconv.GUARD_EVENT_TYPE, event_type), (semconv.GUARD_ACTION_TAKEN, action)))
        except Exception as error:  # noqa: BLE001  a provider is anybody's code
            _complain(error)
        if logged or recorded:
            return
        if logged is None or recorded is None:
            TALLY.drop("events", EMISSION_ERROR)
        else:
            TALLY.drop("events", NO_PIPELINE)
            log_once(
                _logger,
                logging.WARNING,
                "a security event was dropped: OpenTelemetry has neither a log pipeline nor a recording span for it; "
                "add GuardLogExporter to a LoggerProvider, or set OTEL_LOGS_EXPORTER=guard",
            )

    def _cleaned(
        self, event: object, fields: dict[str, object], clean: privacy.Privacy
    ) -> tuple[codec.Row, int | None, str | None] | None:
        """Return an event as a row that may leave the process, its time, and its client where addresses are hashed.

        None where it is counted as dropped.
        """
        try:
            row, nanoseconds = codec.to_row({**codec.fields_of(event), **fields} if fields else event)
        except codec.NotAnEvent as error:
            self._refuse("events", str(error))
            return None
        except Exception as error:  # noqa: BLE001  reading a stranger's object may raise anything
            self._refuse("events", f"a security event could not be read ({type(error).__name__})")
            return None
        made = clean.processed(row)
        cleaned = None if made is None else clean.cleaned(made)
        if made is None or cleaned is None:
            return None
        if cleaned["timestamp"] != row["timestamp"]:
            nanoseconds = codec.nanoseconds_of(cleaned)  # a processor has changed it
        return cleaned, nanoseconds, clean.hashed_client(made)

    def _record_metric(self, metric: object, fields: dict[str, object]) -> None:
        TALLY.emit("metrics")
        try:
            self._record(fields if metric is None else {**codec.fields_of(metric, _METRIC_FIELDS), **fields})
        except Exception as error:  # noqa: BLE001  reading a stranger's object may raise anything
            self._refuse("metrics", f"a security metric could not be recorded ({describe(error)})")

    def _log(
        self,
        row: codec.Row,
        nanoseconds: int | None,
        event_type: str,
        span: trace.Span,
        clean: privacy.Privacy,
        verdict: Verdict,
    ) -> bool:
        severity = severity_of(event_type)
        _, takes, emit = self._current_logger()
        if not takes(severity[0]):
            return False
        json = codec.encoded(row, is_whole=verdict is not UNCERTAIN)
        emit(row, json, nanoseconds, severity, span, None if verdict is SPEAKABLE else clean.text)
        return True

    def _record_on_span(self, row: codec.Row, nanoseconds: int | None, span: trace.Span, logged: bool | None) -> bool:
        if span.is_recording():
            record.add_to_span(span, row, nanoseconds, logged=bool(logged))
            return True
        if logged:
            return False
        tracer = trace.get_tracer(semconv.SCOPE_NAME, __version__, self._tracer_provider)
        with tracer.start_as_current_span(semconv.SECURITY_EVENT) as own:
            if own.is_recording():
                record.add_to_span(own, row, nanoseconds, logged=False)
                return True
        return False

    def _record(self, fields: Mapping[str, object]) -> None:
        metric_type = str(fields.get("metric_type"))
        value = fields.get("value")
        if metric_type not in INSTRUMENTS:
            self._refuse("metrics", f"metric_type is {metric_type!r}, allowed are {', '.join(INSTRUMENTS)}")
            return
        try:
            # A sum of integers must stay within OTLP's 64 bits, so large ones are added up as floats.
            number = value if type(value) is int and abs(value) <= _EXACT else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        meters = self._current_meters()
        counter = meters.counters.get(metric_type)
        if not math.isfinite(number) or (counter is not None and number < 0):
            allowed = "a finite number" if counter is None else "a finite number that is not negative"
            self._refuse("metrics", f"the value of a {metric_type} is {describe(value)}, allowed is {allowed}")
            return
        if (capture := diverted.current()) is not None:
            capture.metric(metric_type, number, _metric_attributes(fields))
            return
        if not meters.records:
            TALLY.drop("metrics", NO_PIPELINE)
            return
        attributes = _metric_attributes(fields)
        if counter is not None:
            counter.add(number, attributes)
        else:
            meters.histograms[metric_type].record(number, attributes)

    def _current_logger(self) -> tuple[LoggerProvider, record.Takes, record.Emit]:
        provider = self._logger_provider or get_logger_provider()
        known = self._logger
        if known is None or known[0] is not provider:
            logger = provider.get_logger(semconv.SCOPE_NAME, __version__)
            known = self._logger = (provider, record.question_to(logger), sifting.emitter_to(logger))
        return known

    def _current_meters(self) -> _Meters:
        provider = self._meter_provider or get_meter_provider()
        meters = self._meters
        if meters is None or meters.provider is not provider:
            meters = self._meters = _Meters(provider)
        return meters

    @staticmethod
    def _refuse(kind: str, why: str) -> None:
        TALLY.drop(kind, INVALID)
        why = privacy.current().text(why)  # it quotes what was given
        _logger.debug("dropped: %s", why)
        log_once(
            _logger,
            logging.WARNING,
            f"{kind} that can't be read are dropped and counted; the first: {why}",
            cause=f"unreadable {kind}",
        )


def _complain(error: Exception) -> None:
    """Say once that a part of a pipeline raises, which the request must not see."""
    log_once(
        _logger,
        logging.ERROR,
        f"a telemetry pipeline fails to take security events; those that none takes are counted: {privacy.told(error)}",
        cause="failing telemetry pipeline",
    )


def _clean_route(attributes: counts.Attributes) -> counts.Attributes:
    clean = privacy.current()
    return tuple(
        (name, clean.path(safe_text(str(value)))) if name == semconv.HTTP_ROUTE else (name, value)
        for name, value in attributes
    )


def _metric_attributes(fields: Mapping[str, object]) -> dict[str, str]:
    clean = privacy.current()
    attributes: dict[str, str] = {}
    endpoint = fields.get("endpoint")
    if endpoint is not None:
        attributes[semconv.HTTP_ROUTE] = clean.path(safe_text(str(endpoint)))
    tags = fields.get("tags")
    if tags and isinstance(tags, Mapping):
        for key, value in clean.tags({describe(key): describe(value) for key, value in tags.items()}).items():
            attributes[semconv.GUARD_TAG_PREFIX + key] = str(value)
    return attributes


_global_emitter = Emitter()


@signatures.emits
def emit_event(event: SecurityEvent | Mapping[str, object] | None = None, /, **fields: object) -> None:
    """Emit one security event through the global OpenTelemetry providers.

    It becomes a log record named ``guard.security_event`` wherever a log
    pipeline is enabled, an event on the current span if that records, and one
    count on ``guard.security_events``. If neither signal takes it, it gets a
    short span of its own; if that is not recorded either, it is counted as
    dropped (``no_pipeline``).

    Args:
        event: a `SecurityEvent`, or a mapping of its fields.
        **fields: fields of a `SecurityEvent`; they win over those of `event`. A timestamp that isn't given is now.

    It never raises and never waits for I/O. Values that JSON does not know are
    converted; an event without an `event_type` is dropped and counted.

    .. versionadded:: 1.0
    """
    # As `Emitter.emit_event` does, which would have to be handed the fields once more.
    interruption.emit("events", _global_emitter._emit_event, event, fields)


@signatures.records
def record_metric(metric: SecurityMetric | Mapping[str, object] | None = None, /, **fields: object) -> None:
    """Record one security metric on its instrument of the global MeterProvider.

    `request_count`, `error_rate` and `bandwidth_usage` (bytes) add up,
    `response_time` (seconds), `threat_level`, `block_rate` and
    `cache_hit_rate` are histograms. The SDK aggregates them by endpoint and
    tags until the next export, so a row bears the time of its interval and a
    given timestamp has no effect.

    Args:
        metric: a `SecurityMetric`, or a mapping of its fields.
        **fields: fields of a `SecurityMetric`; they win over those of `metric`.

    It never raises; a value that is not finite, a negative one of a type that
    adds up and an unknown type are dropped and counted.

    .. versionadded:: 1.0
    """
    _global_emitter.record_metric(metric, **fields)
