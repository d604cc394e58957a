"""An application with a pipeline of its own, to which the Guard exporters are added by hand."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from opentelemetry import _logs, metrics, trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

from opentelemetry_guard import GuardLogExporter, GuardLogProcessor, GuardMetricExporter, GuardSpanExporter, emit_event
from opentelemetry_guard.instrumentation import GuardInstrumentor

spans = TracerProvider()
spans.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))  # what was there before
spans.add_span_processor(BatchSpanProcessor(GuardSpanExporter()))
trace.set_tracer_provider(spans)

logs = LoggerProvider()
logs.add_log_record_processor(GuardLogProcessor(GuardLogExporter(), schedule_delay_millis=50))
_logs.set_logger_provider(logs)

metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(GuardMetricExporter())]))

# Answers become events, secrets are masked, and the end of the process flushes.
GuardInstrumentor().instrument()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Say that the application is up, as an event of its own."""
    emit_event(event_type="application_started", action_taken="logged", reason="by hand")
    yield


app = FastAPI(lifespan=lifespan)
FastAPIInstrumentor.instrument_app(app)


@app.get("/admin")
def admin() -> None:
    """Refuse everybody."""
    raise HTTPException(403, "not for you")
