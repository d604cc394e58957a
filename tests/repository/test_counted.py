"""Coverage is counted of quick tests of named places, while a run goes on with all others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.counted import PLACES, TESTS

CONFTEST = f"""
import sys
sys.path[:0] = [{str(TESTS)!r}, "."]
from pathlib import Path
from support import counted
from support.counted import pytest_itemcollected
counted._counted = (Path("quick").absolute(), Path("test_file.py").absolute())
"""
PARTS = ("quick", "slow", "file", "other")
TEST = """
import pytest, made
@pytest.mark.{mark}
def test_it():
    made.{part}()
"""


def test_lines_that_only_other_tests_reach_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "made.py").write_text("".join(f"def {part}():\n    print()\n" for part in PARTS))
    (tmp_path / "quick").mkdir()
    for part, place in zip(PARTS, ("quick/test_a.py", "quick/test_b.py", "test_file.py", "test_other.py"), strict=True):
        (tmp_path / place).write_text(TEST.format(part=part, mark="slow" if part == "slow" else "usual"))
    options = ["-q", "-c", "/dev/null", "--rootdir", ".", "-n", "2", "--cov=made", "--cov-report=term-missing"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("made.py")]
    assert line.split("%")[1].strip() == "4, 8"
    assert "4 passed" in ran.stdout


def test_the_places_whose_tests_are_counted_are_there() -> None:
    assert [place for place in PLACES if not (TESTS / place).exists()] == []
