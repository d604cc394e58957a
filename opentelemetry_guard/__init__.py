"""Security events and metrics of FastAPI services, delivered to a Guard backend through OpenTelemetry.

Importing the package loads nothing else: each public name is loaded when it
is first asked for, so that who only emits pays for no exporter.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .agent import BufferFullError, GuardAgent, guard_agent
    from .agent_config import AgentConfig
    from .emit import Emitter, emit_event, record_metric
    from .exporters import GuardLogExporter, GuardMetricExporter, GuardSpanExporter
    from .health import health_check, healthz
    from .models import AgentStatus, DynamicRules, EventBatch, SecurityEvent, SecurityMetric
    from .protect import Guard
    from .redis_handler import RedisHandler
    from .rules.middleware import GuardRulesMiddleware

__all__ = [
    "AgentConfig",
    "AgentStatus",
    "BufferFullError",
    "DynamicRules",
    "Emitter",
    "EventBatch",
    "Guard",
    "GuardAgent",
    "GuardLogExporter",
    "GuardMetricExporter",
    "GuardRulesMiddleware",
    "GuardSpanExporter",
    "RedisHandler",
    "SecurityEvent",
    "SecurityMetric",
    "__version__",
    "emit_event",
    "guard_agent",
    "health_check",
    "healthz",
    "record_metric",
]

_HOME = {
    "AgentConfig": "agent_config",
    "AgentStatus": "models",
    "BufferFullError": "agent",
    "DynamicRules": "models",
    "Emitter": "emit",
    "EventBatch": "models",
    "Guard": "protect",
    "GuardAgent": "agent",
    "GuardLogExporter": "exporters",
    "GuardMetricExporter": "exporters",
    "GuardRulesMiddleware": "rules.middleware",
    "GuardSpanExporter": "exporters",
    "RedisHandler": "redis_handler",
    "SecurityEvent": "models",
    "SecurityMetric": "models",
    "emit_event": "emit",
    "guard_agent": "agent",
    "health_check": "health",
    "healthz": "health",
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
