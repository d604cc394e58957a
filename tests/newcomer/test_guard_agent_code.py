"""A newcomer with code of the guard_agent documents follows the page of the agent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from support.pages import codes
from support.terminal import ACTIVATE, Terminal, ban_on_dashboard, newcomer

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("curl") is None, reason="the page asks for curl")]

APPLICATION = codes("docs/agent.md", "python")[0]
START, REPORT = codes("docs/agent.md", "sh")
INSTALL, RUN = START.splitlines(keepends=True)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    with newcomer(tmp_path_factory.mktemp("agent"), INSTALL) as opened:
        yield opened


def test_the_page_ends_with_an_event_and_a_ban_that_holds(terminal: Terminal) -> None:
    (terminal.directory / "main.py").write_text(APPLICATION)
    # Several clients are played from one machine.
    terminal.environment["OTEL_PYTHON_GUARD_TRUSTED_PROXIES"] = "127.0.0.1"
    attacker = {"X-Forwarded-For": "203.0.113.9"}
    with terminal.running(ACTIVATE + RUN) as example:
        assert example.request("/report-event").status_code == 405
        assert terminal.run(REPORT) == '{"status":"event sent"}'
        assert example.event("custom_rule_triggered")["ip_address"] == "192.0.2.7"
        ban_on_dashboard(example, example.backend(), "203.0.113.9")
        example.eventually(lambda: example.request("/report-event", "POST", headers=attacker).status_code == 403)
        assert terminal.run(REPORT) == '{"status":"event sent"}'
        assert "Traceback" not in example.output()
