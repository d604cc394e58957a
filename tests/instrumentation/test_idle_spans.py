"""A processor that leads to a Guard exporter alone gets spans that bear a security event, others get all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from opentelemetry_guard import Emitter, GuardSpanExporter, semconv
from opentelemetry_guard.instrumentation import GuardInstrumentor, idle_spans

SETTINGS = {"endpoint": "http://127.0.0.1:9", "api_key": "k", "project_id": "p", "queue_url": "memory://"}


class Seeing(GuardSpanExporter):
    """A Guard exporter of whose `export` is noted what it is given."""

    reads_events_alone = True

    def __init__(self) -> None:
        super().__init__(**SETTINGS)  # type: ignore[arg-type]
        self.names: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


class Derived(Seeing):
    """One that may do more with spans, as it is somebody else's."""


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    made = TracerProvider(shutdown_on_exit=False)
    yield made
    idle_spans.uninstall()
    made.shutdown()


def spans_of_a_request(provider: TracerProvider) -> None:
    tracer = provider.get_tracer("application")
    with tracer.start_as_current_span("first"):
        pass
    with tracer.start_as_current_span("plain"):
        pass
    with tracer.start_as_current_span("eventful"):
        Emitter(tracer_provider=provider).emit_event({"event_type": "ip_blocked", "ip_address": "192.0.2.1"})
    with provider.get_tracer(semconv.GUARD_CORE_SCOPE).start_as_current_span("guard.event.ip_blocked"):
        pass


@pytest.mark.parametrize("processor", [SimpleSpanProcessor, BatchSpanProcessor])
def test_only_spans_with_an_event_and_those_of_guard_core_reach_its_processor(
    provider: TracerProvider, processor: type[SimpleSpanProcessor]
) -> None:
    exporter, other = Seeing(), InMemorySpanExporter()
    for each in (other, exporter):
        provider.add_span_processor(processor(each))
    idle_spans.install(provider)
    spans_of_a_request(provider)
    provider.force_flush()
    # The first one tells the exporter which service it works for.
    assert sorted(exporter.names) == ["eventful", "first", "guard.event.ip_blocked"]
    assert len(other.get_finished_spans()) == 4


@pytest.mark.parametrize("exporter", [Derived, InMemorySpanExporter])
def test_processors_of_other_exporters_get_all_spans(provider: TracerProvider, exporter: type[SpanExporter]) -> None:
    made = exporter()
    provider.add_span_processor(SimpleSpanProcessor(made))
    idle_spans.install(provider)
    spans_of_a_request(provider)
    names = made.names if isinstance(made, Derived) else [span.name for span in made.get_finished_spans()]
    assert names == ["first", "plain", "eventful", "guard.event.ip_blocked"]


def test_the_instrumentor_begins_and_ends_it(provider: TracerProvider) -> None:
    exporter = Seeing()
    processor = SimpleSpanProcessor(exporter)
    provider.add_span_processor(processor)
    GuardInstrumentor().instrument(tracer_provider=provider)
    try:
        spans_of_a_request(provider)
        assert exporter.names == ["first", "eventful", "guard.event.ip_blocked"]
    finally:
        GuardInstrumentor().uninstrument()
    spans_of_a_request(provider)
    assert exporter.names[3:] == ["first", "plain", "eventful", "guard.event.ip_blocked"]


def test_a_second_install_changes_nothing_and_a_provider_of_another_kind_is_left_alone(
    provider: TracerProvider,
) -> None:
    exporter = Seeing()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    idle_spans.install(provider)
    idle_spans.install(provider)
    idle_spans.install(object())  # type: ignore[arg-type]
    spans_of_a_request(provider)
    assert exporter.names == ["first", "eventful", "guard.event.ip_blocked"]
