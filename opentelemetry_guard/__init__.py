"""Security events and metrics of FastAPI services, delivered to a Guard backend through OpenTelemetry."""

from .emit import Emitter, emit_event, record_metric
from .exporters import GuardLogExporter, GuardMetricExporter, GuardSpanExporter
from .models import AgentStatus, DynamicRules, EventBatch, SecurityEvent, SecurityMetric
from .version import __version__

__all__ = [
    "AgentStatus",
    "DynamicRules",
    "Emitter",
    "EventBatch",
    "GuardLogExporter",
    "GuardMetricExporter",
    "GuardSpanExporter",
    "SecurityEvent",
    "SecurityMetric",
    "__version__",
    "emit_event",
    "record_metric",
]
