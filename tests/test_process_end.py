"""The ends that a process can come to, on real ones: what it holds is delivered, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.application import BIN, PORT, ROOT, ZERO_CODE, running_command
from support.guard_server import GuardServer, guard_server

from opentelemetry_guard import process_end

WATCHDOG = 60
NEVER = {**ZERO_CODE, "OTEL_BLRP_SCHEDULE_DELAY": "3600000", "OTEL_METRIC_EXPORT_INTERVAL": "3600000"}
SHOP = "opentelemetry_guard.demo.shop:app"


def environment(server: GuardServer, directory: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return {
        **kept,
        **server.environment,
        "XDG_STATE_HOME": f"{directory}/state",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "PATH": f"{BIN}{os.pathsep}{kept['PATH']}",
        **(more or {}),
    }


def reasons(server: GuardServer) -> Counter[str]:
    return Counter(event["reason"] for event in server.events)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(
    ("way", "method", "where"),
    [
        ("process", "fork", "import"),
        ("process", "fork", "child"),
        ("process", "forkserver", "import"),
        ("process", "forkserver", "child"),
        ("process", "spawn", "child"),
        ("pool", "fork", "import"),
        ("pool", "forkserver", "import"),
    ],
)
def test_children_that_end_in_the_ordinary_way_deliver(way: str, method: str, where: str, tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "tests/support/children.py"), way, method, where]
    with guard_server() as server:
        subprocess.run(script, env=environment(server, tmp_path), check=True, timeout=WATCHDOG)
        assert reasons(server) == {"child0": 1, "child1": 1, "child2": 1}
        assert sum(row["value"] for row in server.metrics) == 3.0


@pytest.mark.parametrize("arguments", [(), ("--max-tasks-per-child", "1")], ids=["warm-shutdown", "one-task-a-child"])
def test_children_of_a_celery_worker_deliver(arguments: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("celery")
    for name in ("queue", "control", "done"):
        (tmp_path / name).mkdir()
    with guard_server() as server:
        settings = environment(server, tmp_path, {**NEVER, "BROKER": str(tmp_path), "TASKS": "4"})
        worker = ["celery", "-A", "support.tasks", "worker", "-P", "prefork", "-c", "2", "-l", "warning", *arguments]
        process = subprocess.Popen(
            [str(BIN / "opentelemetry-instrument"), *worker], env=settings, cwd=tmp_path, stdout=subprocess.DEVNULL
        )
        try:
            subprocess.run([sys.executable, "-m", "support.tasks"], env=settings, check=True, timeout=WATCHDOG)
            pause = threading.Event()
            for _ in range(20 * WATCHDOG):
                if len(list((tmp_path / "done").iterdir())) == 4:
                    break
                pause.wait(0.05)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WATCHDOG) == 0
        finally:
            process.kill()
            process.wait()
        assert reasons(server) == {f"task{number}": 1 for number in range(4)}
        assert sum(row["value"] for row in server.metrics if row["endpoint"] == "/emitted") == 4.0


@pytest.mark.parametrize(
    "command",
    [
        ("granian", "--interface", "asgi", "--port", PORT, SHOP),
        ("granian", "--interface", "asginl", "--workers", "2", "--port", PORT, SHOP),
        ("hypercorn", "-b", f"127.0.0.1:{PORT}", SHOP),
        ("gunicorn", "-k", "uvicorn.workers.UvicornWorker", "-w", "2", "-b", f"127.0.0.1:{PORT}", SHOP),
    ],
    ids=["granian", "granian-without-lifespan", "hypercorn", "gunicorn"],
)
def test_workers_of_a_server_deliver(command: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip(command[0])
    settings = {**NEVER, "OTEL_SEMCONV_STABILITY_OPT_IN": "http", "XDG_STATE_HOME": str(tmp_path)}
    with guard_server() as server:
        with running_command({**server.environment, **settings}, *command) as shop:
            for number in range(4):
                assert shop.fail_to_log_in(f"user{number}") == 401
            assert not server.events
            assert shop.stop() == 0
        assert Counter(event["event_type"] for event in server.events)["authentication_failed"] == 4
        assert any(row["metric_type"] == "request_count" for row in server.metrics)


LIFESPAN = """
import asyncio, os
from starlette.applications import Starlette
from support.pipelines import emit, set_up
from opentelemetry_guard.instrumentation import GuardInstrumentor

set_up()
GuardInstrumentor().instrument()
app = Starlette()
messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

async def receive():
    return messages.pop(0)

async def send(message):
    if message["type"] == "lifespan.startup.complete":
        emit("serving")
    elif message["type"] == "lifespan.shutdown.complete":
        os._exit(0)  # no handler of any kind runs any more

asyncio.run(app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send))
"""


def test_what_an_application_holds_is_sent_before_its_server_hears_that_its_shutdown_is_complete(
    tmp_path: Path,
) -> None:
    with guard_server() as server:
        subprocess.run(
            [sys.executable, "-c", LIFESPAN], env=environment(server, tmp_path), check=True, timeout=WATCHDOG
        )
        assert reasons(server) == {"serving": 1}
        assert sum(row["value"] for row in server.metrics) == 1.0


INIT = """
import os, signal
from support.pipelines import emit, set_up
from opentelemetry_guard.instrumentation import termination

assert os.getpid() == 1
set_up()
assert termination.install()
emit("before")
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
    signal.signal(signal.SIGINT, termination._terminate)
    os.kill(os.getpid(), number)
emit("after")
"""


def test_the_first_process_of_a_container_goes_on_after_sigterm_and_so_does_its_telemetry(tmp_path: Path) -> None:
    container = ["unshare", "--pid", "--fork", "--mount-proc"]
    try:
        subprocess.run([*container, "true"], check=True, capture_output=True, timeout=WATCHDOG)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no process namespace may be made here")
    with guard_server() as server:
        settings = environment(server, tmp_path)
        subprocess.run([*container, sys.executable, "-c", INIT], env=settings, check=True, timeout=WATCHDOG)
        assert reasons(server) == {"before": 1, "after": 1}
        assert sum(row["value"] for row in server.metrics) == 2.0


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No callback and no provider but the test's own; the list is for what they do."""
    monkeypatch.setattr(process_end, "_ends", {})
    monkeypatch.setattr(process_end, "_flushes", [])
    monkeypatch.setattr(process_end, "_providers", list)
    process_end.goes_on()
    return []


def test_an_end_goes_down_the_road_of_an_event_once(stages: list[str]) -> None:
    process_end.on_end(lambda: stages.append("delivery"), process_end.Stage.DELIVERY)
    process_end.on_end(lambda: stages.append("emission"), process_end.Stage.EMISSION)
    process_end.on_end(lambda: stages.append("pipeline"))
    process_end.end()
    process_end.end()
    assert stages == ["emission", "pipeline", "delivery"]
    process_end.goes_on()
    process_end.end()
    assert len(stages) == 6, "the process went on, and this is another end"
    process_end.goes_on()


def test_a_part_that_hangs_or_raises_keeps_no_other_from_ending(
    stages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_GUARD_SHUTDOWN_TIMEOUT", "0.1")
    monkeypatch.setattr(process_end, "GRACE", 0.2)
    free = threading.Event()
    closed = threading.Event()

    def fail() -> None:
        raise ValueError("a defect")

    process_end.on_end(free.wait)
    process_end.on_end(fail)
    process_end.on_end(lambda: stages.append("another"))
    process_end.on_end(closed.set, process_end.Stage.DELIVERY)
    process_end.end()
    free.set()
    assert stages == ["another"]
    assert closed.wait(WATCHDOG)
    process_end.goes_on()


def test_a_provider_of_the_instrumentors_own_ends_too(stages: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    process_end.goes_on()

    class Provider:
        def shutdown(self) -> None:
            stages.append("shutdown")

        def force_flush(self, timeout_millis: int) -> bool:
            stages.append("flush")
            return False

    provider = Provider()
    process_end.follow_provider(provider)
    try:
        assert process_end.flush(5.0) is False
        process_end._end(process_end._private_providers)
    finally:
        process_end.unfollow_provider(provider)
        process_end.goes_on()
    assert stages == ["flush", "shutdown"]
