"""A person's terminal, who follows a page of the documentation word by word: its blocks, in their order."""

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
from support.commands import environment
from support.example import Example, end_group
from support.ports import free_port
from support.wheel import built

MAKE = "python3 -m venv .venv\n"
ACTIVATE = ". .venv/bin/activate\n"
"""How a person makes and enters an environment of Python's."""

_ENFORCED = re.compile(r"\b1 running \w+ asks for rules")
_FORM_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]+)"')


class Terminal:
    """A terminal in a directory of its own, with free ports in the place of the usual ones.

    The Python that it finds is the one that this environment was made of, and nothing of this environment.
    """

    def __init__(self, directory: Path, wheel: Path | None = None) -> None:
        self.directory, self.wheel, self.port = directory, wheel, free_port()
        settings = {
            "PATH": f"{Path(sys.base_prefix) / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "PYTHONUNBUFFERED": "1",
            "UVICORN_PORT": str(self.port),
            "OTEL_GUARD_BACKEND_PORT": "0",
            "OTEL_GUARD_BACKEND_DB": str(directory / "backend.db"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        self.environment = environment(directory, **settings)
        for name in ("PYTHONPATH", "VIRTUAL_ENV"):
            self.environment.pop(name, None)

    def typed(self, block: str) -> str:
        """Return a block as it is typed here: with the port that is free, and the wheel in the place of the name."""
        block = block.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        return block if self.wheel is None else block.replace("'opentelemetry-guard[", f"'{self.wheel}[")

    def run(self, block: str, **variables: str) -> str:
        """Carry a block out and return what it prints."""
        ran = subprocess.run(
            ["bash", "-ec", self.typed(block)],
            cwd=self.directory,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    @contextmanager
    def running(self, block: str, name: str = "output") -> Iterator[Example]:
        """Leave a block running, whose output goes to the file `name`."""
        output = self.directory / name
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


@contextmanager
def newcomer(directory: Path, *install: str) -> Iterator[Terminal]:
    """Give the terminal of somebody who has carried `install` out, in a fresh environment, with the wheel of here.

    What else is installed comes from the index that pip uses on this machine; where none answers, the test is skipped.
    """
    ask_index(directory)
    terminal = Terminal(directory, built(directory))
    # The settings of pip, and what it has fetched before, are in the home of the machine's user.
    home = {"HOME": str(Path.home())}
    try:
        terminal.run(MAKE + ACTIVATE + "".join(install), **home)
        yield terminal
    finally:
        shutil.rmtree(directory / ".venv", ignore_errors=True)


def ask_index(directory: Path) -> None:
    """Skip where the index does not answer for a package that everybody needs."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "0", "orjson"]
    try:
        asked = subprocess.run(
            [*command, "--dest", str(directory / "asked")], capture_output=True, text=True, timeout=60
        )
    except subprocess.TimeoutExpired:
        pytest.skip("no index answers pip within a minute")
    if asked.returncode != 0:
        pytest.skip(f"no index answers pip: {asked.stderr.strip().splitlines()[-1:]}")


def ban_on_dashboard(example: Example, dashboard: str, address: str) -> None:
    """Ban an address as the form of the page *Rules* does, once that page says that an application enforces."""

    def shown() -> str | None:
        page = example.http.get(f"{dashboard}/rules", timeout=60).text
        return page if _ENFORCED.search(page) else None

    token = _FORM_TOKEN.search(example.eventually(shown))
    assert token is not None
    fields = {"form_token": token[1], "address": address}
    saved = example.http.post(f"{dashboard}/rules/ban", data=fields, timeout=60)
    assert saved.status_code == 200, saved.text
