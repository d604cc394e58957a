"""The page on migration has every field that may have been set, and every attribute that may have been read."""

from __future__ import annotations

import re

import pytest
from support.backend import ROOT

from opentelemetry_guard.settings.agent import AgentConfig

PAGE = (ROOT / "docs" / "migration.md").read_text()
NAMED = set(re.findall(r"`([\w.]+)`", PAGE))


def test_every_field_of_fastapi_guards_configuration_that_is_about_telemetry_is_there() -> None:
    config = pytest.importorskip("guard").SecurityConfig
    about = re.compile(r"agent_|enable_agent$|enable_otel$|otel_|enable_dynamic_rules$|dynamic_rule")
    assert {name for name in config.model_fields if about.match(name)} - NAMED == set()


def test_every_attribute_of_guard_cores_spans_is_there() -> None:
    handler = pytest.importorskip("guard_core.core.events.otel_handler")
    attributes = {name for name, _ in handler._EVENT_SPAN_ATTRS} | {"guard.event_type", "guard.status_code"}
    assert attributes - NAMED == set()


def test_fields_of_the_agents_configuration_have_the_names_of_fastapi_guards() -> None:
    theirs = {name.removeprefix("agent_") for name in NAMED if name.startswith("agent_")}
    assert theirs & AgentConfig.model_fields.keys() >= {
        "api_key",
        "endpoint",
        "project_id",
        "buffer_size",
        "install_id",
    }
