"""The tables of the documents are those that the declarations make."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from opentelemetry_guard.settings import environment_variables
from opentelemetry_guard.settings.durable import DurableConfig
from opentelemetry_guard.settings.table import BY_NAME, GROUPS, SETTINGS, variables

TABLES = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "tables.py"))


@pytest.mark.parametrize("document", TABLES["documents"](), ids=lambda path: path.name)
def test_a_document_has_the_tables_that_the_declarations_make(document: Path) -> None:
    assert document.read_text() == TABLES["written"](document), "run make tables"


def test_one_page_has_every_variable() -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    assert all(f"| `{variable.removeprefix(prefix)}` |" in page for prefix, variable in map(split, variables()))


def split(variable: str) -> tuple[str, str]:
    """Return the prefix that a table leaves away, and the variable."""
    prefixes = sorted({group.PREFIX for group in (*GROUPS, DurableConfig)}, key=len, reverse=True)
    return next(prefix for prefix in prefixes if variable.startswith(prefix)), variable


def test_the_module_of_variables_is_the_one_that_the_declarations_make() -> None:
    assert Path(environment_variables.__file__).read_text() == TABLES["module_of_variables"](), "run make tables"


def test_no_two_settings_have_a_name_in_common() -> None:
    assert len(BY_NAME) == len(SETTINGS)
    assert all(found.declared.meaning for found in SETTINGS)
