"""Which tests coverage is counted of, where a run counts it (``--cov``); see docs/decisions/coverage-in-process.md."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

PLACES = (
    "agent",
    "backend/alerts",
    "backend/lists",
    "backend/storage",
    "decision",
    "durable/test_answers.py",
    "durable/test_delivery.py",
    "durable/test_posting.py",
    "durable/test_requests.py",
    "events",
    "exporters",
    "instrumentation",
    "privacy",
    "rules",
    "settings",
    "siem",
    "testing",
    "test_emit.py",
    "test_models.py",
)
"""Rooms and files whose tests run in pytest's own process and within seconds."""

_counted = tuple(TESTS / place for place in PLACES)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test as `counted`; others, and slow ones, run without a tracer, which would slow and disturb them."""
    inside = any(item.path == place or place in item.path.parents for place in _counted)
    if inside and not item.get_closest_marker("slow"):
        item.add_marker("counted")
    elif item.config.pluginmanager.hasplugin("_cov"):
        item.add_marker("no_cover")
