"""The end of a real process: no socket is left open, and a name server that hangs doesn't keep it alive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.guard_server import Answer, GuardServer, guard_server
from support.redis import redis_server

WATCHDOG = 60.0
TESTS = Path(__file__).parents[1]

EXPORTER = """
import sys
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry_guard import emit_event
from opentelemetry_guard.exporters.log import GuardLogExporter

provider = LoggerProvider()
provider.add_log_record_processor(BatchLogRecordProcessor(GuardLogExporter()))
set_logger_provider(provider)
emit_event({"event_type": "ip_blocked", "reason": "x"})
"""
AGENT = """
from opentelemetry_guard import AgentConfig, guard_agent

class Transport:
    async def send_events(self, events):
        return True
    async def send_metrics(self, metrics):
        return True
    async def fetch_dynamic_rules(self):
        return None
    async def send_status(self, status):
        return True

agent = guard_agent(AgentConfig(api_key="server-test-key-0123456789", status_interval=1))
agent.transport = Transport()
agent.sync.start()
agent.sync.send_event({"event_type": "ip_blocked"})
agent.sync.get_dynamic_rules()
agent.sync.flush_buffer()
agent.sync.stop()
"""
FLUSHED = EXPORTER + "provider.force_flush()\n"
DELIVERED = FLUSHED + "from opentelemetry_guard.delivery import registry\nassert registry.everyone()[0].flush(20)\n"
RULES = (
    EXPORTER
    + """
import threading
from opentelemetry_guard import rules
told = threading.Event()
rules.subscribe(lambda old, new: told.set())
told.wait(20)
"""
)
HANGING_NAMES = """
import socket, threading
socket.getaddrinfo = lambda *arguments, **options: threading.Event().wait()
"""


def run(script: str, tmp_path: Path, server: GuardServer, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environ |= {**server.environment, "XDG_STATE_HOME": str(tmp_path), "HOME": str(tmp_path), **variables}
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-W", "default::DeprecationWarning", "-c", script],
        env=environ,
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
    )


@pytest.mark.parametrize("store", ["sqlite", "memory"])
@pytest.mark.parametrize("script", [EXPORTER, FLUSHED, DELIVERED, AGENT, RULES])
def test_no_socket_or_file_is_left_open(script: str, store: str, tmp_path: Path) -> None:
    queue = f"sqlite://{tmp_path}/queue/guard.db" if store == "sqlite" else "memory://"
    with guard_server() as server:
        server.serve_rules({"rule_id": "r", "version": 1})
        ended = run(script, tmp_path, server, OTEL_EXPORTER_GUARD_QUEUE_URL=queue)
    assert ended.returncode == 0, ended.stderr
    assert "ResourceWarning" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_no_socket_to_redis_is_left_open(tmp_path: Path) -> None:
    with guard_server() as server, redis_server() as redis:
        ended = run(DELIVERED, tmp_path, server, OTEL_EXPORTER_GUARD_QUEUE_URL=redis.url)
    assert ended.returncode == 0, ended.stderr
    assert "ResourceWarning" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_backend_that_hangs_or_fails_leaves_no_socket_open_either(tmp_path: Path) -> None:
    for answer in ({"delay": 3600.0}, {"reset": True}, {"status": 503}, {"drip": 5.0}):
        with guard_server() as server:
            server.answer(**answer, times=None)  # type: ignore[arg-type]
            server.control = Answer(**answer)  # type: ignore[arg-type]
            ended = run(FLUSHED, tmp_path, server, OTEL_EXPORTER_GUARD_SHUTDOWN_TIMEOUT="1")
        assert ended.returncode == 0, ended.stderr
        assert "ResourceWarning" not in ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("script", [EXPORTER, FLUSHED, RULES.replace("told.wait(20)", "told.wait(0.5)")])
def test_a_name_server_that_hangs_does_not_keep_a_process_alive(script: str, tmp_path: Path) -> None:
    with guard_server() as server:
        ended = run(
            HANGING_NAMES + script,
            tmp_path,
            server,
            OTEL_EXPORTER_GUARD_ENDPOINT="http://guard.example",
            OTEL_EXPORTER_GUARD_SHUTDOWN_TIMEOUT="1",
        )
    assert ended.returncode == 0, ended.stderr
