"""Every block of code in the documentation is run, read, or marked as a fragment with the reason.

Python is run as it stands, in a process of its own. Of a shell's commands those of this package are read by its own
command line, without being carried out; "first steps" is carried out in a test of its own.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path

import pytest
import typer.main
import yaml
from support.backend import ROOT
from support.commands import environment
from support.pages import Block, blocks

from opentelemetry_guard.cli.app import app

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CARRIED_OUT = ("first-steps.md",)
"""Pages whose shell commands another test carries out."""

KNOWN_COMMANDS = {"curl", "export", "pip", "python", "make", "uvicorn", "opentelemetry-instrument"}
"""What a shell block may begin a line with, besides variables and commands of this package."""

VARIABLE = re.compile(r"[A-Z_]+=")


ALL = [block for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] for block in blocks(page)]


def of(*languages: str) -> pytest.MarkDecorator:
    chosen = [block for block in ALL if block.language in languages]
    return pytest.mark.parametrize("block", chosen, ids=lambda block: f"{block.page.stem}-{block.number}")


@of("python")
def test_python_runs(block: Block, tmp_path: Path) -> None:
    settings = {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "OTEL_EXPORTER_GUARD_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_EXPORTER_GUARD_SHUTDOWN_TIMEOUT": "0.2",
    }
    ran = subprocess.run(
        [sys.executable, "-c", block.code],
        cwd=tmp_path,
        env=environment(tmp_path, **settings),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr


@of("sh", "")
def test_shell_commands_are_known(block: Block) -> None:
    if block.page.name in CARRIED_OUT:
        return
    for line in re.sub(r"\\\n", " ", block.code).splitlines():
        words = shlex.split(line, comments=True)
        words = list(itertools.takewhile(lambda word: word not in ("|", ">"), words))
        while words and VARIABLE.match(words[0]):
            del words[0]
        if words and words[0] == "opentelemetry-guard":
            read_arguments(words[1:])
        elif words:
            assert words[0] in KNOWN_COMMANDS, line


def read_arguments(arguments: list[str]) -> None:
    """Have the command line read arguments, and do nothing; it raises for what it does not know."""
    command, name = typer.main.get_command(app), "opentelemetry-guard"
    while True:
        # A program's own options follow its name, and help ends everything.
        if "--help" in arguments or arguments[:1] == ["--install-completion"]:
            return
        context = command.make_context(name, list(arguments), resilient_parsing=False)
        if not isinstance(command, typer.core.TyperGroup) or not (rest := [*context._protected_args, *context.args]):
            return
        name, command, arguments = command.resolve_command(context, rest)
        assert command is not None


READERS: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "ini": lambda text: ConfigParser(strict=False).read_string(text) or True,
}
"""What reads a block of a language."""


@of(*READERS)
def test_data_can_be_read(block: Block) -> None:
    assert READERS[block.language](block.code)


def test_there_is_no_block_of_another_language() -> None:
    assert {block.language for block in ALL} <= {"python", "sh", "", *READERS}
