"""What is in a wheel: ``python tests/support/wheel.py dist/*.whl`` lists it, and fails where it is not the package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]
PACKAGE = "opentelemetry_guard"


def expected(root: Path) -> set[str]:
    """Return the package's own files, by their path below `root`."""
    files = (path for path in (root / PACKAGE).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix() for path in files}


def built(directory: Path) -> Path:
    """Build the wheel in `directory`, from a copy of the sources, beside which other things lie."""
    sources, made = directory / "sources", directory / "built"
    sources.mkdir()
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    for name in (PACKAGE, "tests", "benchmarks"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, made], cwd=sources, check=True, capture_output=True)
    (path,) = made.glob("*.whl")
    return path


def contents(wheel: Path) -> set[str]:
    """Return what a wheel holds, without the metadata that every wheel has."""
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.partition("/")[0].endswith(".dist-info")}


if __name__ == "__main__":
    [path] = sys.argv[1:]
    found = contents(Path(path))
    print(*sorted(found), sep="\n")
    print(f"{len(found)} files")
    if found != expected(ROOT):
        foreign, missing = sorted(found - expected(ROOT)), sorted(expected(ROOT) - found)
        sys.exit(f"the wheel is not the package: it has {foreign} besides it, and lacks {missing}")
