"""Who follows "first steps" word by word ends with an event and a ban: the page's own blocks, in their order."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from support.backend import ROOT
from support.pages import codes
from support.terminal import Terminal
from support.wheel import built

PAGE = (ROOT / "docs" / "first-steps.md").read_text()
SHELL = codes("docs/first-steps.md", "sh")
FILE = re.search(r'^```python title="(?P<name>[\w.]+)"\n(?P<text>.*?)^```', PAGE, re.M | re.S)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("curl") is None, reason="the page asks for curl")]


def installed(terminal: Terminal, block: str) -> None:
    """Carry out the installation; the new environment finds what is installed here, in the place of an index."""
    # Commands that come with what is installed here, as uvicorn does, are where these packages are.
    terminal.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{terminal.environment['PATH']}"
    make, *rest = block.splitlines(keepends=True)
    terminal.run(make)
    (packages,) = terminal.directory.glob(".venv/lib/python*/site-packages")
    (packages / "here.pth").write_text(next(path for path in sys.path if path.endswith("site-packages")) + "\n")
    terminal.wheel = built(terminal.directory)
    terminal.run("".join(rest), PIP_NO_DEPS="1", PIP_NO_INDEX="1")


def test_first_steps_end_with_an_event_and_a_ban(tmp_path: Path) -> None:
    install, run, wrong_password, ban, others = SHELL
    assert FILE is not None
    terminal = Terminal(tmp_path)
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
