"""The agents page of the applications of one user."""

from __future__ import annotations

import sys
from pathlib import Path

from support.backend import RunningBackend, running_backend
from support.commands import run, settings_of

from opentelemetry_guard.models import DynamicRules

PLAIN = """
from opentelemetry_guard import emit_event, flush

emit_event(event_type="custom_rule_triggered", ip_address="192.0.2.7", action_taken="logged")
assert flush(20)
"""

ENFORCING = """
import threading
from opentelemetry_guard import rules

arrived = threading.Event()
rules.subscribe(lambda old, new: arrived.set(), interval=1)
assert arrived.wait(30)
"""


def ran(backend: RunningBackend, home: Path, service: str, code: str) -> None:
    result = run(home, "run", "--", sys.executable, "-c", code, OTEL_SERVICE_NAME=service, **settings_of(backend))
    assert result.returncode == 0, result.stderr


def test_a_plain_application_beside_one_that_enforces_rules_is_not_taken_for_it(tmp_path: Path) -> None:
    with running_backend() as backend:
        backend.set_rules(DynamicRules(ip_blacklist=["192.0.2.7"]))
        for service, code in (("plain", PLAIN), ("enforcing", PLAIN + ENFORCING), ("plain", PLAIN)):
            ran(backend, tmp_path, service, code)
        assert [agent["status"]["service"]["name"] for agent in backend.agents()] == ["enforcing", "plain"]
        page = backend.http.get(f"{backend.url}/agents", timeout=60).text
        of_plain, of_enforcing = (page.partition(f"service={name}")[2] for name in ("plain", "enforcing"))
        assert "not enforced" in of_plain.partition("service=")[0]
        assert "not enforced" not in of_enforcing.partition("service=")[0]
