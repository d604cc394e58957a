"""Shell completion as a person has it: installed by the command, and asked for with Tab in a real shell."""

from __future__ import annotations

import os
import pty
import select
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.commands import environment, run
from support.redis import eventually

PROMPT = b"what now> "

# Each shell writes what its line has become to a file, when Ctrl+X b is typed.
WRITE_LINE = {
    "bash": 'PS1="what now> "; bind -x \'"\\C-xb": printf %s "$READLINE_LINE" > "$HOME/line"\'',
    "zsh": 'PS1="what now> "; written() { print -rn -- "$BUFFER" > $HOME/line }; zle -N written; bindkey "^Xb" written',
    "fish": 'function fish_prompt; printf "what now> "; end; bind \\cxb "commandline > $HOME/line"',
}
STARTED_BY = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/config.fish"}


@pytest.fixture(params=sorted(WRITE_LINE))
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"there is no {name} on this machine")
    return name


@contextmanager
def interactive(shell: str, home: Path) -> Iterator[Callable[[bytes], None]]:
    """Run a shell on a terminal of its own; give what types into it."""
    bin_directory = str(Path(sys.executable).parent)
    variables = environment(
        home, PATH=f"{bin_directory}{os.pathsep}{os.environ['PATH']}", TERM="xterm", LC_ALL="C.UTF-8"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(home)
        os.execve(shutil.which(shell) or shell, [shell, "-i"], variables)
    shown = b""

    def reads() -> bytes:
        nonlocal shown
        while select.select([terminal], [], [], 0)[0]:
            shown += os.read(terminal, 65536)
        return shown

    def write(keys: bytes) -> None:
        os.write(terminal, keys)

    try:
        eventually(lambda: PROMPT in reads(), 60, told=lambda: repr(shown))
        yield write
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(terminal)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("opentelemetry-guard que", "opentelemetry-guard queue "),
        ("opentelemetry-guard queue dead-letters re", "opentelemetry-guard queue dead-letters replay "),
        ("opentelemetry-guard run --enf", "opentelemetry-guard run --enforce "),
    ],
)
def test_tab_completes_a_command_and_an_option(tmp_path: Path, shell: str, typed: str, completed: str) -> None:
    assert run(tmp_path, "--install-completion", shell).returncode == 0
    started = tmp_path / STARTED_BY[shell]
    started.parent.mkdir(parents=True, exist_ok=True)
    with started.open("a") as file:
        file.write(f"\n{WRITE_LINE[shell]}\n")
    line = tmp_path / "line"
    with interactive(shell, tmp_path) as write:
        write(typed.encode() + b"\t")

        def is_completed() -> bool:
            write(b"\x18b")
            return line.exists() and line.read_text().rstrip("\n") == completed

        eventually(is_completed, 60, every=0.3, told=lambda: repr(line.exists() and line.read_text()))
