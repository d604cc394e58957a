"""Every test begins like a fresh process: no settings, an empty state directory, nothing counted, said or offered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from support.counted import pytest_itemcollected
from support.databases import database, empty_database, module_database, module_store, postgresql, store
from support.order import pytest_collection_modifyitems

from opentelemetry_guard import privacy
from opentelemetry_guard.decision import cloud
from opentelemetry_guard.delivery import workers
from opentelemetry_guard.events import capture, enrichment
from opentelemetry_guard.events.tally import TALLY
from opentelemetry_guard.settings import late, once

__all__ = [
    "database",
    "empty_database",
    "module_database",
    "module_store",
    "postgresql",
    "pytest_collection_modifyitems",
    "pytest_itemcollected",
    "store",
]

# The same examples in every run, and no verdict that depends on how busy the machine is.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, max_examples=50)
hypothesis.settings.load_profile("suite")

# A shell has what it runs in the background ignore Ctrl+C, and commands that tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _isolated_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(autouse=True)
def _fresh_counts_and_messages() -> None:
    TALLY._after_fork()
    once._said.clear()
    late.forget()
    privacy.reset()
    capture._captured.clear()
    enrichment._after_fork_in_child()
    cloud._lists = cloud._Lists()
    workers._left.clear()  # a request of an earlier test may hang until its server is gone


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("a small disk is a tmpfs, which only root on Linux can mount")
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    options = ["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(disk)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
