"""The tables of the documents are those that the declarations make."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from opentelemetry_guard.settings import environment_variables
from opentelemetry_guard.settings.table import BY_NAME, SETTINGS

TABLES = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "tables.py"))


@pytest.mark.parametrize("document", TABLES["documents"](), ids=lambda path: path.name)
def test_a_document_has_the_tables_that_the_declarations_make(document: Path) -> None:
    assert document.read_text() == TABLES["written"](document), "run make tables"


def test_the_readme_has_every_variable() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert TABLES["TABLES"]["settings: exporters"] in readme
    assert TABLES["TABLES"]["settings: instrumentation"] in readme


def test_the_module_of_variables_is_the_one_that_the_declarations_make() -> None:
    assert Path(environment_variables.__file__).read_text() == TABLES["variables"](), "run make tables"


def test_no_two_settings_have_a_name_in_common() -> None:
    assert len(BY_NAME) == len(SETTINGS)
    assert all(found.declared.meaning for found in SETTINGS)
