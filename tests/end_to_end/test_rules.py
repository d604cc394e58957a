"""Rules set at a real backend reach a plain application under a real uvicorn, and its events reach the backend."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from support.application import ZERO_CODE, RunningApplication, running_application
from support.backend import running_backend

from opentelemetry_guard.models import DynamicRules

BANNED = "203.0.113.9"
GENEROUS = 60.0
"""Seconds that rules may take to arrive on a shared machine; 2 are promised at an interval of 1."""


def status_for(app: RunningApplication, address: str) -> int:
    answer = app.http.get(f"{app.url}/items/7", headers={"X-Forwarded-For": address}, timeout=60)
    return answer.status_code


def wait_for_status(app: RunningApplication, address: str, status: int) -> float:
    """Ask until the answer is `status`; return the seconds that it took."""
    began, pause = time.monotonic(), threading.Event()
    while status_for(app, address) != status:
        assert time.monotonic() - began < GENEROUS, f"not {status} after {GENEROUS} s"
        pause.wait(0.05)  # the application tells nobody when it has taken rules over
    return time.monotonic() - began


def test_a_ban_at_the_backend_blocks_requests_of_a_plain_application_and_its_end_lets_them_pass(
    tmp_path: Path,
) -> None:
    with running_backend() as backend:
        settings = {
            **ZERO_CODE,
            **backend.environment,
            "OTEL_PYTHON_GUARD_RULES_INTERVAL": "1",
            "XDG_STATE_HOME": str(tmp_path / "application"),
        }
        with running_application("support.plain_app:app", settings) as app:
            assert status_for(app, BANNED) == 200

            rules = backend.set_rules(DynamicRules(rule_id="bans", ip_blacklist=["203.0.113.0/28"]))
            blocked_after = wait_for_status(app, BANNED, 403)
            assert status_for(app, "203.0.113.99") == 200

            event = next(e for e in backend.wait_for_events(1) if e["event_type"] == "ip_blocked")
            assert (event["ip_address"], event["status_code"], event["endpoint"]) == (BANNED, 403, "/items/7")
            assert (event["action_taken"], event["rule_type"]) == ("request_blocked", "ip_blacklist")
            assert (event["metadata"]["rule_id"], event["metadata"]["rule_version"]) == ("bans", rules.version)

            backend.set_rules(DynamicRules(rule_id="bans"))
            passed_after = wait_for_status(app, BANNED, 200)
            assert {e["event_type"] for e in backend.events() if e["ip_address"] == BANNED} == {"ip_blocked"}
            print(f"blocked after {blocked_after:.2f} s, passed after {passed_after:.2f} s")
