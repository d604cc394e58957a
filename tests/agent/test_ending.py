"""How an agent follows the end of its process; that it delivers then is shown on real ones in test_documents."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from agent.conftest import MakeAgent
from agent.serving import environment
from support.guard_server import GuardServer

from opentelemetry_guard.agent.ending import apart
from opentelemetry_guard.process import end as process_end
from opentelemetry_guard.process import signals as termination


@pytest.fixture(autouse=True)
def _default_action() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in termination.SIGNALS}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    termination.unfollow_uvicorn()
    for number, action in before.items():
        signal.signal(number, action)


def test_a_running_agent_is_shut_down_by_the_signals_handler_and_a_stopped_one_is_not(make_agent: MakeAgent) -> None:
    before = len(process_end._ends)
    agent = make_agent()
    agent.sync.start()
    assert signal.getsignal(signal.SIGTERM) is termination._terminate
    assert len(process_end._ends) == before + 1
    agent.sync.stop()
    assert len(process_end._ends) == before


def test_uvicorn_is_wrapped_once_however_often_an_agent_starts(make_agent: MakeAgent) -> None:
    agent = make_agent()
    for _ in range(3):
        agent.sync.start()
        agent.sync.stop()
    for name in ("serve", "shutdown"):
        assert not hasattr(vars(uvicorn.Server)[name].__wrapped__, "__wrapped__"), name


def test_signals_are_left_alone_where_the_environment_says_so(
    make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_GUARD_SIGTERM_HANDLER", "false")
    make_agent().sync.start()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_work_that_a_signals_handler_may_wait_for_is_not_done_on_the_thread_that_the_handler_interrupts() -> None:
    threads: list[threading.Thread] = []
    apart(lambda: threads.append(threading.current_thread()))
    assert threads[0] is not threading.main_thread()
    with pytest.raises(KeyError, match="its own"):
        apart(lambda: {}["its own"])


def test_a_signal_in_the_midst_of_a_stop_waits_for_its_end(make_agent: MakeAgent) -> None:
    agent = make_agent()
    agent.sync.start()
    stopped: list[bool] = []

    class Interrupted:
        def send_events(self, events: object) -> None:
            # The handler runs on the main thread, which is in the midst of the stop.
            signal.pthread_kill(main, signal.SIGUSR1)

        def send_metrics(self, metrics: object) -> None: ...

        def fetch_dynamic_rules(self) -> None: ...

        def send_status(self, status: object) -> None: ...

    def handle(number: int, frame: object) -> None:
        thread = threading.Thread(target=agent.sync.stop)
        thread.start()
        thread.join(30)
        stopped.append(not thread.is_alive())

    main = threading.main_thread().ident or 0
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        agent.transport = Interrupted()
        agent.sync.send_event({"event_type": "custom_rule_triggered"})
        agent.sync.stop()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert stopped == [True]


SCRIPT = """
import os, signal, sys
from opentelemetry_guard import AgentConfig, guard_agent

agent = guard_agent(AgentConfig(api_key=sys.argv[2], project_id="test-project", endpoint=sys.argv[1]))
agent.sync.start()
agent.sync.send_event({"event_type": "custom_rule_triggered", "reason": sys.argv[3]})
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
        [sys.executable, "-c", SCRIPT, server.url, server.api_key, end],
        env=settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert [event["reason"] for event in server.events] == [end]


def test_an_agent_that_is_never_started_says_what_it_loses_and_counts_it() -> None:
    code = (
        "import atexit\n"
        "from opentelemetry_guard import AgentConfig, guard_agent\n"
        "from opentelemetry_guard.events.tally import TALLY\n"
        "atexit.register(lambda: print(TALLY.read()))\n"
        "agent = guard_agent(AgentConfig(api_key='k' * 20, project_id='p'))\n"
        "for number in range(3): agent.sync.send_event({'event_type': 'ip_blocked', 'ip_address': '203.0.113.7'})\n"
        "agent.sync.send_metric({'metric_type': 'request_count', 'value': 1})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "4 events and metrics are lost" in done.stderr
    assert "agent.start()" in done.stderr
    assert "not_started" in done.stdout
