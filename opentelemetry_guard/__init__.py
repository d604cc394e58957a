"""Security events and metrics of FastAPI services, delivered to a Guard backend through OpenTelemetry.

Importing the package loads nothing else: each public name is loaded when it
is first asked for, so that who only emits pays for no exporter.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .emit import Emitter, emit_event, record_metric
    from .exporters import GuardLogExporter, GuardMetricExporter, GuardSpanExporter
    from .models import AgentStatus, DynamicRules, EventBatch, SecurityEvent, SecurityMetric

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

_HOME = {
    "AgentStatus": "models",
    "DynamicRules": "models",
    "Emitter": "emit",
    "EventBatch": "models",
    "GuardLogExporter": "exporters",
    "GuardMetricExporter": "exporters",
    "GuardSpanExporter": "exporters",
    "SecurityEvent": "models",
    "SecurityMetric": "models",
    "emit_event": "emit",
    "record_metric": "emit",
}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
