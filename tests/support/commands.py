"""Running a command as a person does, without the variables of this process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.backend import ROOT, RunningBackend

COMMAND = [sys.executable, "-m", "opentelemetry_guard.cli"]
SELECTED = {
    "OTEL_TRACES_EXPORTER": "guard",
    "OTEL_LOGS_EXPORTER": "guard",
    "OTEL_METRICS_EXPORTER": "guard",
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
}


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Return this process's environment without telemetry settings, with a home and variables of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "XDG_"))}
    return {**kept, "HOME": str(home), "NO_PROXY": "*", "PYTHONPATH": str(ROOT), **variables}


def run(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line and return how it ended."""
    return subprocess.run(
        [*COMMAND, *arguments], env=environment(home, **variables), capture_output=True, text=True, timeout=120
    )


def settings_of(backend: RunningBackend) -> dict[str, str]:
    """Return what a service needs to send to `backend`."""
    return {
        **SELECTED,
        "OTEL_EXPORTER_GUARD_ENDPOINT": backend.url,
        "OTEL_EXPORTER_GUARD_API_KEY": backend.api_key,
        "OTEL_EXPORTER_GUARD_PROJECT_ID": backend.project,
    }
