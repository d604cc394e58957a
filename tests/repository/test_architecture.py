"""The arrows between rooms: what `pyproject.toml` says of them is checked, and a planted arrow is seen."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "opentelemetry_guard"
LINT = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"]


def broken(house: Path) -> set[str]:
    """Return the names of the contracts that the package in `house` breaks."""
    done = subprocess.run(LINT, cwd=house, capture_output=True, text=True)
    assert "Contracts: " in done.stdout, done.stdout + done.stderr
    names = set(re.findall(r"^(.+) BROKEN(?: .*)?$", done.stdout, re.MULTILINE))
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


def test_no_file_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imports).prepare()  # raises with the circle


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


def answer(question: str) -> str:
    """Return the file that ARCHITECTURE.md names for a question."""
    row = rf"^\| {re.escape(question)}.* \| `{PACKAGE}/(\S+)` \|$"
    found = re.search(row, (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert found is not None, question
    return found[1]


Search = Callable[[ast.AST], bool]


def files_with(wanted: Search, rooms: tuple[str, ...]) -> set[str]:
    """Return the files of rooms that have such a node."""
    paths = [path for room in rooms for path in (ROOT / PACKAGE / room).rglob("*.py")]
    return {
        path.relative_to(ROOT / PACKAGE).as_posix()
        for path in paths
        if any(wanted(node) for node in ast.walk(ast.parse(path.read_text())))
    }


def constant(value: object) -> Search:
    """Find a constant."""
    return lambda node: isinstance(node, ast.Constant) and node.value == value


def definition(name: str) -> Search:
    """Find a function or a class."""
    return lambda node: isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name


def declaration(name: str) -> Search:
    """Find the declaration of a setting."""

    def found(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.AnnAssign)
            and ast.unparse(node.target) == name
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func) == "setting"
        )

    return found


HOUSE = ("",)
DELIVERY = ("delivery", "queue", "exporters", "rules", "agent")


@pytest.mark.parametrize(
    ("question", "wanted", "rooms"),
    [
        ("what happens on a 413", constant(413), DELIVERY),
        ("where is a header masked", definition("Privacy"), HOUSE),
        ("how does a worker take over a dead one's batch", definition("claim"), ("queue/sqlite",)),
        ("which attribute carries the client's address", constant("client.address"), HOUSE),
        ("where is `OTEL_EXPORTER_GUARD_TIMEOUT` declared and checked", declaration("timeout"), HOUSE),
    ],
)
def test_a_question_has_one_file_as_its_answer(question: str, wanted: Search, rooms: tuple[str, ...]) -> None:
    assert files_with(wanted, rooms) == {answer(question)}


def test_every_thread_is_in_the_table_and_has_a_name_of_ours() -> None:
    """Their names are seen in debuggers and dumps of an application that isn't ours; `testing` is in no application."""
    rows = re.findall(r"^\| (`OtelGuard.*?) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    sources = {path: path.read_text() for path in (ROOT / PACKAGE).rglob("*.py") if "testing" not in path.parts}
    named = {name for text in sources.values() for name in re.findall(r'"(OtelGuard[A-Za-z]+)"', text)}
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == named
    started = [
        ast.unparse(keyword.value)
        for text in sources.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("threading.Thread", "Thread")
        for keyword in node.keywords
        if keyword.arg == "name"
    ]
    assert [name for name in started if name.startswith("'") and name.strip("'") not in named] == []
