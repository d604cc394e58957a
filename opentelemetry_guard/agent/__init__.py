"""The agent of the documents on top of OpenTelemetry: `guard_agent`, and the object that it returns."""

from __future__ import annotations

from .agent import GuardAgent, guard_agent
from .errors import BufferFullError, DeliveryError, GuardAgentError
from .sync import SyncAgent

__all__ = ["BufferFullError", "DeliveryError", "GuardAgent", "GuardAgentError", "SyncAgent", "guard_agent"]
