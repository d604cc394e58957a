"""Status reports and rules between real processes and the local backend."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.backend import running_backend
from support.redis import eventually

from opentelemetry_guard import GuardLogExporter
from opentelemetry_guard.models import DynamicRules
from opentelemetry_guard.settings import late

PROGRAM = """
import sys
from opentelemetry_guard import rules

def on_rules(old, new):
    print(",".join(new.ip_blacklist), flush=True)

rules.subscribe(on_rules, interval=1)
sys.stdin.read()
"""


def test_a_ban_set_at_the_backend_reaches_a_process_and_so_does_lifting_it() -> None:
    with running_backend() as backend:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, **backend.environment, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            assert process.stdout.readline() == "\n"
            backend.set_rules(DynamicRules(rule_id="r", ip_blacklist=["192.0.2.7"]))
            assert process.stdout.readline() == "192.0.2.7\n"
            backend.set_rules(DynamicRules(rule_id="r"))
            assert process.stdout.readline() == "\n"
            process.stdin.close()
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()


def test_the_backend_knows_how_an_exporters_process_is_doing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_backend() as backend:
        monkeypatch.setenv("OTEL_EXPORTER_GUARD_ENDPOINT", backend.url)
        exporter = GuardLogExporter()
        late.offer("SecurityConfig", api_key=backend.api_key, project_id=backend.project)
        eventually(lambda: [agent["status"]["status"] for agent in backend.agents()] == ["healthy"])
        exporter.shutdown()
