"""The wheel has the package in it, with its templates and styles, and nothing else."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest
from support.wheel import PACKAGE, ROOT, built, contents, expected


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_is_the_package(wheel: Path) -> None:
    assert contents(wheel) == expected(ROOT)


def test_the_wheel_has_what_the_dashboard_and_type_checkers_read(wheel: Path) -> None:
    names = contents(wheel)
    assert f"{PACKAGE}/py.typed" in names
    assert {name.rpartition(".")[2] for name in names} >= {"html", "css", "js", "svg"}


def test_the_wheel_names_its_license_and_commands(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        metadata = {name.partition(".dist-info/")[2] for name in archive.namelist() if ".dist-info/" in name}
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= metadata
