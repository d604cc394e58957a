"""The arrows between rooms: what `pyproject.toml` says of them is checked, and a planted arrow is seen."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "opentelemetry_guard"
LINT = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"]


def broken(house: Path) -> set[str]:
    """Return the names of the contracts that the package in `house` breaks."""
    done = subprocess.run(LINT, cwd=house, capture_output=True, text=True)
    assert "Contracts: " in done.stdout, done.stdout + done.stderr
    names = set(re.findall(r"^(.+) BROKEN$", done.stdout, re.MULTILINE))
    assert done.returncode == (1 if names else 0)
    return names


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the package and of its contracts."""
    ignored = shutil.ignore_patterns("__pycache__", "static", "templates")
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_package_keeps_every_contract() -> None:
    assert broken(ROOT) == set()


ROOMS = "Rooms import from lower floors only"


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("settings/values.py", "from ..delivery import outcome", ROOMS),
        ("delivery/route.py", "def _late():\n    from ..exporters import log", ROOMS),
        ("delivery/backoff.py", "if TYPE_CHECKING:\n    from ..rules.client import RulesClient", ROOMS),
        ("attic/__init__.py", "", ROOMS),
        ("queue/base.py", "from ..events import codec", "A queue holds bytes"),
        ("emit.py", "def _late():\n    from .delivery import registry", "Emission knows no exporter"),
        ("instrumentation/patching.py", "from ..delivery import registry", "Instrumentation knows neither"),
        ("instrumentation/http/noise.py", "from ...exporters import log", "Instrumentation knows neither"),
        ("backend/hosts.py", "from ..delivery import backoff", "Backend and client side"),
        ("models.py", "from .backend import hosts", ROOMS),
        ("delivery/backoff.py", "from . import outcome", "No circle among the files"),
    ],
)
def test_a_planted_arrow_breaks_its_contract(house: Path, file: str, line: str, contract: str) -> None:
    planted = house / PACKAGE / file
    planted.parent.mkdir(exist_ok=True)
    with planted.open("a") as source:
        source.write(f"\n\n{line}\n")
    assert any(name.startswith(contract) for name in broken(house))
