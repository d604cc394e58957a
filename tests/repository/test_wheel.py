"""The wheel has the package in it, with its templates and styles, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from support.wheel import PACKAGE, ROOT, contents, expected

BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that is built from a copy of the sources, beside which other things lie."""
    sources, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("built")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    for name in (PACKAGE, "tests", "benchmarks"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", BUILD, built], cwd=sources, check=True, capture_output=True)
    [path] = built.glob("*.whl")
    return path


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
