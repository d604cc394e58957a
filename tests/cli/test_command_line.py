"""What all commands of `opentelemetry-guard` have in common: their help, and how they fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import environment, run

COMMANDS = [
    (),
    ("run",),
    ("demo",),
    ("doctor",),
    ("queue",),
    ("queue", "stats"),
    ("queue", "list"),
    ("queue", "drain"),
    ("queue", "dead-letters"),
    ("queue", "dead-letters", "list"),
    ("queue", "dead-letters", "show"),
    ("queue", "dead-letters", "replay"),
    ("queue", "dead-letters", "purge"),
    ("backend",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_ends_with_examples_that_can_be_copied(tmp_path: Path, command: tuple[str, ...]) -> None:
    result = run(tmp_path, *command, "--help", COLUMNS="80")
    assert result.returncode == 0
    _, _, examples = result.stdout.partition("  Examples:\n")
    assert examples
    for line in examples.splitlines():
        assert "opentelemetry-guard" in line
        assert len(line) <= 80


@pytest.mark.parametrize(
    ("arguments", "what", "where"),
    [
        (("qeue",), "No such command 'qeue'", "opentelemetry-guard --help"),
        (("doctor", "--jsn"), "No such option: --jsn", "opentelemetry-guard doctor --help"),
        (("queue", "list", "--limit", "few"), "'--limit'", "opentelemetry-guard queue list --help"),
        (("queue", "dead-letters", "show"), "Missing argument", "opentelemetry-guard queue dead-letters show --help"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path: Path, arguments: tuple[str, ...], what: str, where: str) -> None:
    result = run(tmp_path, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")
    assert what in result.stderr
    assert result.stderr.endswith(f"See {where}\n")
    assert result.stderr.count("\n") == 1


def test_a_group_without_a_command_shows_its_help(tmp_path: Path) -> None:
    result = run(tmp_path, "queue")
    assert result.returncode == 2
    assert "dead-letters" in result.stdout + result.stderr


@pytest.mark.parametrize("package", ["typer", "rich", "packaging"])
def test_a_missing_package_is_one_line(tmp_path: Path, package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from opentelemetry_guard.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, "doctor"], env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert f"needs {package}" in result.stderr
    assert result.stderr.endswith("pip install 'opentelemetry-guard[cli]'\n")
    assert result.stderr.count("\n") == 1


def test_shells_complete_commands(tmp_path: Path) -> None:
    variables = {
        "_OPENTELEMETRY_GUARD_COMPLETE": "complete_bash",
        "COMP_WORDS": "opentelemetry-guard queue d",
        "COMP_CWORD": "2",
    }
    assert run(tmp_path, **variables).stdout.split() == ["drain", "dead-letters"]


@pytest.mark.parametrize(
    ("shell", "part"),
    [
        ("bash", "complete -o default -F"),
        ("zsh", "#compdef opentelemetry-guard"),
        ("fish", "complete --command opentelemetry-guard"),
        ("powershell", "Register-ArgumentCompleter"),
    ],
)
def test_the_completion_of_a_shell_that_is_named_is_shown(tmp_path: Path, shell: str, part: str) -> None:
    # Whatever shell the command is started from.
    result = run(tmp_path, "--show-completion", shell)
    assert (result.returncode, result.stderr) == (0, "")
    assert part in result.stdout
    assert "_OPENTELEMETRY_GUARD_COMPLETE" in result.stdout


def test_the_completion_of_a_shell_that_is_named_is_installed(tmp_path: Path) -> None:
    result = run(tmp_path, "--install-completion", "fish")
    assert result.returncode == 0, result.stderr
    script = tmp_path / ".config" / "fish" / "completions" / "opentelemetry-guard.fish"
    assert "complete --command opentelemetry-guard" in script.read_text()


def test_a_shell_that_nobody_knows_is_one_line(tmp_path: Path) -> None:
    result = run(tmp_path, "--show-completion", "zch")
    assert result.returncode == 2
    assert "zch" in result.stderr
    assert result.stderr.count("\n") == 1
