"""Files whose tests take long are given out first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parents[1]
TEST = """
@pytest.mark.{mark}
@pytest.mark.parametrize("number", range({tests}))
def test_it(number):
    with open("begun", "a") as file:
        file.write("{name} ")
"""


def test_a_process_begins_with_the_files_that_take_long_and_goes_on_with_the_largest(tmp_path: Path) -> None:
    files = [("a", 1, "usual"), ("b", 3, "usual"), ("c", 1, "faults"), ("d", 2, "slow"), ("e", 2, "usual")]
    for name, tests, mark in files:
        text = "import pytest\n" + TEST.format(name=name, tests=tests, mark=mark)
        (tmp_path / f"test_{name}.py").write_text(text)
    (tmp_path / "conftest.py").write_text(
        f"import sys\nsys.path.insert(0, {str(SUPPORT)!r})\nfrom support.order import pytest_collection_modifyitems\n"
    )
    options = ["-q", "-c", "/dev/null", "--rootdir", ".", "-n", "1", "--dist", "loadfile", "--no-loadscope-reorder"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / "begun").read_text().split() == list("ddcbbbeea")
