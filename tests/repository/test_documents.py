"""What documents and docstrings name exists: names of the package, files, links, modules to run, targets of make."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from opentelemetry_guard.cli.backend import backend_commands
from opentelemetry_guard.settings.table import variables

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SOURCES = sorted(ROOT.glob("opentelemetry_guard/**/*.py"))
DECISIONS = ROOT / "docs" / "decisions"

OTHERS_VARIABLES = re.compile(
    r"OTEL_(?:B[LS]R?P_\w+|(?:LOGS|TRACES|METRICS)_EXPORTER|METRIC_EXPORT_INTERVAL|SDK_DISABLED|CONFIG_FILE|SERVICE_NAME"
    r"|RESOURCE_ATTRIBUTES|SEMCONV_STABILITY_OPT_IN|ATTRIBUTE_\w+_LIMIT|EXPORTER_OTLP_\w*"
    r"|PYTHON_(?:DISABLED_INSTRUMENTATIONS|SDK_INTERNAL_METRICS_ENABLED|EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER))"
)
"""The variables of OpenTelemetry that documents name."""

by_name = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def missing_names(text: str) -> list[str]:
    """Return the dotted names of this package in a text that are neither modules nor attributes."""
    found = set(re.findall(r"\bopentelemetry_guard(?:\.[A-Za-z_]\w*)+", text))
    return sorted(name for name in found if not resolves(name.split(".")))


def resolves(parts: list[str]) -> bool:
    """Whether a name is that of a module, or leads from one to an attribute."""
    for length in range(len(parts), 0, -1):
        try:
            value: object = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if part not in getattr(value, "__annotations__", {}) and not hasattr(value, part):
                return False
            value = getattr(value, part, None)
        return True
    return False


def examples(text: str) -> Iterable[ast.AST]:
    """Yield the nodes of the Python examples in a document."""
    for example in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from ast.walk(ast.parse(example))


@by_name
def test_every_name_of_the_package_in_a_document_exists(document: Path) -> None:
    assert missing_names(document.read_text()) == []


def test_every_name_of_the_package_in_a_docstring_exists() -> None:
    wrong = {
        str(source.relative_to(ROOT)): names
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if (names := missing_names(node.value.value))
    }
    assert wrong == {}


def test_a_name_that_is_gone_is_found() -> None:
    assert missing_names("see `opentelemetry_guard.emit` and opentelemetry_guard.emit.gone.") == [
        "opentelemetry_guard.emit.gone"
    ]


@by_name
def test_what_the_examples_of_a_document_import_exists(document: Path) -> None:
    wrong = [
        f"{node.module}.{alias.name}"
        for node in examples(document.read_text())
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "opentelemetry_guard"
        for alias in node.names
        if not resolves(f"{node.module}.{alias.name}".split("."))
    ]
    assert wrong == []


@by_name
def test_every_link_of_a_document_leads_to_a_file(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    files = [link.partition("#")[0] for link in links if "://" not in link and not link.startswith("#")]
    assert [file for file in files if not (document.parent / file).exists()] == []


def test_the_readme_is_short_and_its_links_are_whole_for_the_index() -> None:
    """On an index's page a relative link leads nowhere; what the absolute ones name is here."""
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    forge = re.compile(r"https://(?:raw\.githubusercontent|github)\.com/[\w-]+/[\w-]+/(?:blob/)?main/")
    assert [link for link in links if not forge.match(link) or not (ROOT / forge.sub("", link)).exists()] == []
    assert len(text.splitlines()) <= 100


@by_name
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    named = re.findall(r"`((?:opentelemetry_guard|tests|docs|benchmarks)/[\w./-]*)`", document.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@by_name
def test_every_module_that_a_document_runs_exists(document: Path) -> None:
    modules = re.findall(r"python -m (benchmarks[.\w]*|opentelemetry_guard[.\w]*)", document.read_text())
    assert [module for module in modules if find_spec(module.rstrip(".")) is None] == []


@by_name
def test_every_target_of_make_that_a_document_names_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(), re.MULTILINE)
    assert [target for target in named if target not in targets] == []


def test_the_index_of_decisions_names_every_page_once() -> None:
    index = re.findall(r"\]\(([\w-]+\.md)\)", (DECISIONS / "README.md").read_text())
    assert sorted(index) == sorted(page.name for page in DECISIONS.glob("*.md") if page.name != "README.md")


@pytest.mark.parametrize("page", sorted(DECISIONS.glob("[!R]*.md")), ids=lambda page: page.stem)
def test_a_decision_has_its_three_parts(page: Path) -> None:
    parts = re.findall(r"^\*\*(\w+)\.\*\*", page.read_text(), re.MULTILINE)
    assert parts == ["Context", "Decision", "Consequence"]


def options_of_the_backend() -> set[str]:
    """Return the variables that the backend's command takes its options from."""
    params = typer.main.get_command(backend_commands).params
    named = (one.envvar if isinstance(one.envvar, (list, tuple)) else [str(one.envvar)] for one in params)
    return {name for names in named for name in names}


@by_name
def test_every_variable_that_a_document_names_is_read(document: Path) -> None:
    named = set(re.findall(r"\bOTEL_[A-Z0-9_]*[A-Z0-9]\b(?!_)", document.read_text()))
    ours = {*variables(), *options_of_the_backend()}
    assert sorted(name for name in named - ours if not OTHERS_VARIABLES.fullmatch(name)) == []


def said_in_the_package() -> str:
    """Return all texts of the package, a line each, with ``*`` where something is put in."""
    nodes = [node for source in SOURCES for node in ast.walk(ast.parse(source.read_text()))]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    texts += [
        "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)
        for node in nodes
        if isinstance(node, ast.JoinedStr)
    ]
    return "\n".join(text.replace("%s", "*") for text in texts)


def test_every_message_that_troubleshooting_quotes_is_said() -> None:
    """A message has several words. It is compared in pieces: between what is left out and what the source puts in."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    quoted = [each for cell in re.findall(r"^\| (.*?) \|", text, re.MULTILINE) for each in re.findall(r"`(.+?)`", cell)]
    messages = [each for each in quoted if each.count(" ") > 1]
    assert len(messages) > 8
    said = said_in_the_package()
    pieces = {
        piece.strip()
        for each in messages
        for piece in re.split(r"\.\.\.|[()]|events|Guard backend|delivery queue", each)
    }
    assert sorted(piece for piece in pieces if piece not in said) == []


def reasons(source: Path) -> set[str]:
    """Return the reasons of drops that a file declares: texts whose docstrings begin with this word."""
    body = ast.parse(source.read_text()).body
    return {
        str(declared.value.value)
        for declared, docstring in pairwise(body)
        if isinstance(declared, ast.Assign) and isinstance(declared.value, ast.Constant)
        if isinstance(docstring, ast.Expr) and ast.unparse(docstring.value).lstrip("'\"").startswith("Reason")
    }


def test_every_reason_of_a_drop_is_explained() -> None:
    explained = "".join((ROOT / "docs" / name).read_text() for name in ("delivery.md", "durable.md"))
    found = {reason for source in SOURCES for reason in reasons(source)}
    assert len(found) > 20
    assert sorted(reason for reason in found if f"`{reason}`" not in explained) == []


def test_the_configuration_file_of_the_documents_is_the_examples() -> None:
    example = (ROOT / "examples/declarative/otel.yaml").read_text()
    assert f"```yaml\n{example}```\n" in (ROOT / "docs/installation.md").read_text()
    assert 'declarative = ["opentelemetry-configuration' in (ROOT / "pyproject.toml").read_text()
    assert "[auto,backend,cli,declarative]" in (ROOT / "examples/declarative/README.md").read_text()
