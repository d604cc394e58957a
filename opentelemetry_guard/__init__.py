"""Security events and metrics of FastAPI services, delivered to a Guard backend through OpenTelemetry.

Importing the package loads nothing else: each public name is loaded when it
is first asked for, so that who only emits pays for no exporter.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .agent import BufferFullError, GuardAgent, GuardAgentError, guard_agent
    from .agent.protect import Guard
    from .client import GuardAgentHandler
    from .configuration import configure
    from .delivery.health import delivery_stats, health_check, healthz
    from .emit import Emitter, emit_event, record_metric
    from .exporters import GuardLogExporter, GuardLogProcessor, GuardMetricExporter, GuardSpanExporter
    from .instrumentation.http.logins import report_login
    from .models import AgentStatus, DynamicRules, EventBatch, SecurityEvent, SecurityMetric
    from .process.end import flush
    from .protocols import AgentHandlerProtocol, BufferProtocol, RedisHandlerProtocol, TransportProtocol
    from .redis_handler import RedisHandler
    from .rules.middleware import GuardRulesMiddleware
    from .settings.agent import AgentConfig
    from .utils import get_current_timestamp

__all__ = [
    "AgentConfig",
    "AgentHandlerProtocol",
    "AgentStatus",
    "BufferFullError",
    "BufferProtocol",
    "DynamicRules",
    "Emitter",
    "EventBatch",
    "Guard",
    "GuardAgent",
    "GuardAgentError",
    "GuardAgentHandler",
    "GuardLogExporter",
    "GuardLogProcessor",
    "GuardMetricExporter",
    "GuardRulesMiddleware",
    "GuardSpanExporter",
    "RedisHandler",
    "RedisHandlerProtocol",
    "SecurityEvent",
    "SecurityMetric",
    "TransportProtocol",
    "__version__",
    "configure",
    "delivery_stats",
    "emit_event",
    "flush",
    "get_current_timestamp",
    "guard_agent",
    "health_check",
    "healthz",
    "record_metric",
    "report_login",
]

_HOME = {
    "AgentConfig": "settings.agent",
    "AgentHandlerProtocol": "protocols",
    "AgentStatus": "models",
    "BufferFullError": "agent",
    "BufferProtocol": "protocols",
    "DynamicRules": "models",
    "Emitter": "emit",
    "EventBatch": "models",
    "Guard": "agent.protect",
    "GuardAgent": "agent",
    "GuardAgentError": "agent",
    "GuardAgentHandler": "client",
    "GuardLogExporter": "exporters",
    "GuardLogProcessor": "exporters",
    "GuardMetricExporter": "exporters",
    "GuardRulesMiddleware": "rules.middleware",
    "GuardSpanExporter": "exporters",
    "RedisHandler": "redis_handler",
    "RedisHandlerProtocol": "protocols",
    "SecurityEvent": "models",
    "SecurityMetric": "models",
    "TransportProtocol": "protocols",
    "configure": "configuration",
    "delivery_stats": "delivery.health",
    "emit_event": "emit",
    "flush": "process.end",
    "get_current_timestamp": "utils",
    "guard_agent": "agent",
    "health_check": "delivery.health",
    "healthz": "delivery.health",
    "record_metric": "emit",
    "report_login": "instrumentation.http.logins",
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
