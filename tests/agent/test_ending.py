"""How an agent follows the end of its process; that it delivers then is shown on real ones in test_documents."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import uvicorn
from agent.conftest import MakeAgent
from agent.serving import environment
from support.guard_server import GuardServer

from opentelemetry_guard.instrumentation import termination


@pytest.fixture(autouse=True)
def _default_action() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    termination.unfollow_uvicorn()
    signal.signal(signal.SIGTERM, before)


def test_a_running_agent_is_shut_down_by_the_signals_handler_and_a_stopped_one_is_not(make_agent: MakeAgent) -> None:
    before = len(termination._also)
    agent = make_agent()
    agent.start()
    assert signal.getsignal(signal.SIGTERM) is termination._terminate
    assert len(termination._also) == before + 1
    agent.stop()
    assert len(termination._also) == before


def test_uvicorn_is_wrapped_once_however_often_an_agent_starts(make_agent: MakeAgent) -> None:
    agent = make_agent()
    for _ in range(3):
        agent.start()
        agent.stop()
    for name in ("serve", "shutdown"):
        assert not hasattr(vars(uvicorn.Server)[name].__wrapped__, "__wrapped__"), name


def test_signals_are_left_alone_where_the_environment_says_so(
    make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_GUARD_SIGTERM_HANDLER", "false")
    make_agent().start()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


SCRIPT = """
import os, signal, sys
from opentelemetry_guard import AgentConfig, guard_agent

agent = guard_agent(AgentConfig(api_key=sys.argv[2], project_id="test-project", endpoint=sys.argv[1]))
agent.start()
agent.send_event({"event_type": "custom_rule_triggered", "reason": sys.argv[3]})
if sys.argv[3] == "signal":
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
"""


@pytest.mark.parametrize(("end", "code"), [("exit", 0), ("signal", -signal.SIGTERM)])
def test_a_script_that_never_stops_its_agent_delivers_all_the_same(
    server: GuardServer, tmp_path: object, end: str, code: int
) -> None:
    settings = environment({"XDG_STATE_HOME": f"{tmp_path}/state"})
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, server.url, server.api_key, end], env=settings, timeout=60, check=False
    )
    assert done.returncode == code
    assert [event["reason"] for event in server.events] == [end]
