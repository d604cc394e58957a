"""The wheel has the package in it, with its templates and styles, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
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


def test_the_sdist_has_all_that_builds_tests_and_documents_the_package(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, sources / name)
    build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=sources, check=True, capture_output=True)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    forge = (".github/", ".ci/", ".gitignore", "MANIFEST.in")
    assert [name for name in tracked if not name.startswith(forge) and name not in held] == []
