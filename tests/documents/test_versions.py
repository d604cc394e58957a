"""Every public name that came after the documents of guard_agent says since which version it is there."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest
from packaging.version import Version
from support.backend import ROOT

from opentelemetry_guard.version import __version__

DOCUMENTED = {
    "AgentConfig",
    "AgentHandlerProtocol",
    "AgentStatus",
    "BufferProtocol",
    "DynamicRules",
    "EventBatch",
    "Guard",
    "GuardAgentHandler",
    "RedisHandler",
    "RedisHandlerProtocol",
    "SecurityEvent",
    "SecurityMetric",
    "TransportProtocol",
    "get_current_timestamp",
    "guard_agent",
}
"""What the documents of guard_agent name."""

REFERENCE = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
NEWER = [name for name in REFERENCE if name.rpartition(".")[2] not in DOCUMENTED]


def test_the_documents_names_are_in_the_reference() -> None:
    assert {name.rpartition(".")[2] for name in REFERENCE} >= DOCUMENTED


@pytest.mark.parametrize("name", NEWER)
def test_a_name_says_since_when_it_is_there(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    docstring = inspect.getdoc(getattr(importlib.import_module(module), attribute)) or ""
    (since,) = re.findall(r"^\.\. versionadded:: (\d+\.\d+)$", docstring, re.MULTILINE)
    assert Version(since).release <= Version(__version__).release
