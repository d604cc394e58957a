"""A real PostgreSQL server on a socket of its own, for tests; a fresh database for each of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import OperationalError

from opentelemetry_guard.backend.storage.store import Store

START_SECONDS = 60.0
"""When a start is given up."""

_OWNER = "postgres"
"""The user that the server runs as where the tests are root's, which it refuses to run as."""


class Postgresql:
    """A server that runs, and its databases."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        """Where its socket is, and its data in `data`."""
        self._numbers = count(1)

    def url(self, name: str) -> URL:
        """Return the URL of a database."""
        return URL.create("postgresql+psycopg", username="guard", database=name, query={"host": str(self.directory)})

    def run(self, statement: str) -> None:
        """Run a statement outside of the tests' databases."""
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.execute(text(statement))
        finally:
            engine.dispose()

    @contextmanager
    def database(self, *, empty: bool = False) -> Iterator[URL]:
        """Give a database that holds nothing, with the backend's tables or without them; it goes with the block."""
        name = f"guard{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}" if empty else f"CREATE DATABASE {name} TEMPLATE {self._template}")
        try:
            yield self.url(name)
        finally:
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    @cached_property
    def _template(self) -> str:
        """The database that others are copied from: it takes less time than to make the tables of each."""
        self.run("CREATE DATABASE made")
        Store(self.url("made")).close()
        return "made"


def programs() -> Path | None:
    """Return the directory of the server's programs; None where it isn't installed."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


@contextmanager
def running_postgresql(*options: str) -> Iterator[Postgresql]:
    """Start a server, and end it with the block; without the programs, or a user to run it as, the test is skipped.

    `options` are settings of the server, such as ``fsync=on``: what is lost by a power cut is of no matter otherwise.
    """
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    is_root = os.name == "posix" and os.geteuid() == 0
    owner = _OWNER if is_root else None
    # Not below pytest's own directories, which are root's alone; and a socket's path is short.
    directory = Path(tempfile.mkdtemp(prefix="guard-pg-"))
    try:
        if owner is not None:
            shutil.chown(directory, owner)
        data = directory / "data"
        made = subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "guard", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            user=owner,
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            pytest.skip(f"PostgreSQL cannot be set up here: {made.stderr.strip()[-300:]}")
        settings = [f"unix_socket_directories={directory}", "listen_addresses=", "fsync=off", *options]
        with (directory / "log").open("w") as log:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", data, *(word for one in settings for word in ("-c", one))],
                user=owner,
                cwd=directory,
                stdout=log,
                stderr=log,
            )
        try:
            running = Postgresql(directory)
            _wait(server, running, directory / "log")
            yield running
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait(30)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _wait(server: subprocess.Popen[bytes], running: Postgresql, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return running.run("SELECT 1")
        except OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-1000:]}") from None
            time.sleep(0.05)  # it says nowhere that it has started, but in a log that others write to as well
