"""Importing any module of the package changes nothing of the process that others share."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import importlib, logging, pkgutil, signal, sys, threading
from opentelemetry import _logs, metrics, trace
import opentelemetry_guard

def state():
    root = logging.getLogger()
    return (
        logging.root.manager.disable,
        list(root.handlers),
        {name: logger.level for name, logger in logging.root.manager.loggerDict.items() if hasattr(logger, "level")},
        {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)},
        [thread.name for thread in threading.enumerate()],
        [provider() for provider in (trace.get_tracer_provider, metrics.get_meter_provider, _logs.get_logger_provider)],
    )

before = state()
for found in pkgutil.walk_packages(opentelemetry_guard.__path__, "opentelemetry_guard."):
    # Alembic executes its files, which nobody imports.
    if not found.name.endswith("__main__") and ".migrations" not in found.name:
        importlib.import_module(found.name)
after = state()
levels = {name: level for name, level in after[2].items() if level and before[2].get(name, 0) != level}
assert not {name for name in levels if name.startswith(("guard", "opentelemetry", "fastapi", "uvicorn"))}, levels
assert [*before[:2], *before[3:]] == [*after[:2], *after[3:]], (before, after)
"""


def test_no_import_touches_logging_signals_threads_or_providers() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
