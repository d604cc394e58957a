"""The documents' home of `guard_agent`, kept for ``from opentelemetry_guard.client import guard_agent``."""

from __future__ import annotations

from .agent import GuardAgent, guard_agent

__all__ = ["GuardAgent", "GuardAgentHandler", "guard_agent"]

GuardAgentHandler = GuardAgent
"""The agent's class by its name in the documents."""
