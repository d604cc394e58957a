"""Who follows "first steps" word by word ends with an event and a ban: the page's own blocks, in their order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.backend import ROOT
from support.commands import environment
from support.example import Example, end_group
from support.redis import free_port
from support.wheel import built

PAGE = (ROOT / "docs" / "first-steps.md").read_text()
SHELL = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)
FILE = re.search(r'^```python title="(?P<name>[\w.]+)"\n(?P<text>.*?)^```', PAGE, re.M | re.S)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("curl") is None, reason="the page asks for curl")]


class Terminal:
    """A person's terminal: commands of the page, with free ports in the place of the usual ones."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory, self.port = directory, port
        self.wheel: Path | None = None
        settings = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "UVICORN_PORT": str(port),
            "OTEL_GUARD_BACKEND_PORT": "0",
            "OTEL_GUARD_BACKEND_DB": str(directory / "backend.db"),
            # The package as it is here, without the network; what it needs is there by `installed`.
            "PIP_NO_DEPS": "1",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        self.environment = environment(directory, **settings)
        self.environment.pop("PYTHONPATH")

    def typed(self, block: str) -> str:
        """Return a block as it is typed here."""
        block = block.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        return block.replace("'opentelemetry-guard[", f"'{self.wheel}[")

    def run(self, block: str) -> str:
        """Carry a block out and return what it prints."""
        ran = subprocess.run(
            ["bash", "-ec", self.typed(block)],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    @contextmanager
    def running(self, block: str) -> Iterator[Example]:
        """Leave a block running."""
        output = self.directory / "output"
        with output.open("wb") as written:
            process = subprocess.Popen(
                ["bash", "-ec", self.typed(block)],
                cwd=self.directory,
                env=self.environment,
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Example(process, output, self.directory / "backend.db", self.port)
        finally:
            end_group(process)


def installed(terminal: Terminal, block: str) -> None:
    """Carry out the installation; the new environment finds what is installed here, in the place of an index."""
    make, *rest = block.splitlines(keepends=True)
    terminal.run(make)
    (packages,) = terminal.directory.glob(".venv/lib/python*/site-packages")
    (packages / "here.pth").write_text(next(path for path in sys.path if path.endswith("site-packages")) + "\n")
    terminal.wheel = built(terminal.directory)
    terminal.run("".join(rest))


def test_first_steps_end_with_an_event_and_a_ban(tmp_path: Path) -> None:
    install, run, wrong_password, ban, others = SHELL
    assert FILE is not None
    terminal = Terminal(tmp_path, free_port())
    installed(terminal, install)
    (tmp_path / FILE["name"]).write_text(FILE["text"])
    activate = next(line for line in install.splitlines() if "activate" in line)
    with terminal.running(f"{activate}\n{run}") as example:
        example.request("/items/1")
        assert terminal.run(wrong_password) == '{"detail":"wrong user or password"}'
        event = example.event("authentication_failed")
        assert (event["ip_address"], bool(event["metadata"]["trace_id"])) == ("203.0.113.9", True)
        terminal.run(ban)
        example.eventually(lambda: terminal.run(others) == '{"detail":"Forbidden"}{"item":1}')
        assert example.event("ip_blocked")["ip_address"] == "203.0.113.9"


def test_what_the_page_says_is_answered_is_what_is_answered() -> None:
    for answer in ('{"detail":"wrong user or password"}', '{"detail":"Forbidden"}', '{"item":1}'):
        assert f"`{answer}`" in PAGE
