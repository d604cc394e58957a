"""Whatever a row holds, each format has one line for it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from siem.rows import full, hostile

from opentelemetry_guard.siem.formats import FORMATS


def lines(row: dict[str, Any]) -> dict[str, bytes]:
    """Return a row's line in each format; they are what they should be."""
    made = {name: written.line(row) for name, written in FORMATS.items()}
    for name, line in made.items():
        assert b"\n" not in line
        assert b"\r" not in line
        assert line.decode() if name == "cef" else isinstance(orjson.loads(line), dict)
    return made


@settings(max_examples=100, deadline=None)
@given(hostile())
def test_any_row_has_a_line_in_every_format(row: dict[str, Any]) -> None:
    lines(row)


@pytest.mark.parametrize("key", ["guard.threat_score", "guard.behavior.recent_event_count"])
@pytest.mark.parametrize("value", [1e300, -1e19, 2.0**63])
def test_a_number_beyond_64_bits_costs_no_line(key: str, value: float) -> None:
    metadata: Any = full("x")["metadata"]
    lines({**full("x"), "metadata": {**metadata, key: value}})
