"""The document on the agent names every field, with its default, and every variable that there is."""

from __future__ import annotations

import re
from pathlib import Path

from opentelemetry_guard import AgentConfig
from opentelemetry_guard.settings import environment_variables

TEXT = (Path(__file__).parents[2] / "docs" / "agent.md").read_text()
ROWS = {
    field: cells
    for line in TEXT.splitlines()
    if (match := re.match(r"\| `(\w+)` \|", line)) and (field := match.group(1)) != "AgentConfig"
    for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
}


def test_every_field_has_its_row_and_its_default() -> None:
    assert ROWS.keys() == AgentConfig.model_fields.keys()
    for name, field in AgentConfig.model_fields.items():
        if isinstance(field.default, (int, float)) and not isinstance(field.default, bool):
            assert ROWS[name][1].startswith(str(field.default)), name


def test_every_variable_of_ours_exists() -> None:
    named = set(re.findall(r"OTEL_(?:EXPORTER|PYTHON)_GUARD_\w+", TEXT))
    known = set(vars(environment_variables))
    assert named <= known, named - known
