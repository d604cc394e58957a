"""The ends that a process can come to, on real ones: what it holds is delivered, once."""

from __future__ import annotations

import json
import os
import resource
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
from support.redis import eventually

from opentelemetry_guard.process import end as process_end

WATCHDOG = 60
NEVER = {**ZERO_CODE, "OTEL_BLRP_SCHEDULE_DELAY": "3600000", "OTEL_METRIC_EXPORT_INTERVAL": "3600000"}
SHOP = "opentelemetry_guard.cli.demo.shop:app"


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
        ("executor", "fork", "import"),
        ("executor", "forkserver", "import"),
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
    ("ready", "workers", "command"),
    [
        ("Started worker-", 1, f"granian --interface asgi --port {PORT} {SHOP}"),
        ("Started worker-", 2, f"granian --interface asginl --workers 2 --port {PORT} {SHOP}"),
        ("Running on ", 1, f"hypercorn -b 127.0.0.1:{PORT} {SHOP}"),
        ("startup complete", 2, f"gunicorn -k uvicorn.workers.UvicornWorker -w 2 -b 127.0.0.1:{PORT} {SHOP}"),
    ],
    ids=["granian", "granian-without-lifespan", "hypercorn", "gunicorn"],
)
def test_workers_of_a_server_deliver(ready: str, workers: int, command: str, tmp_path: Path) -> None:
    pytest.importorskip(command.split()[0])
    settings = {**NEVER, "OTEL_SEMCONV_STABILITY_OPT_IN": "http", "XDG_STATE_HOME": str(tmp_path)}
    output = tmp_path / "output"
    with guard_server() as server:
        with running_command({**server.environment, **settings}, *command.split(), output=output) as shop:
            for number in range(4):
                assert shop.fail_to_log_in(f"user{number}") == 401
            # granian gives a fork its own handler of SIGTERM, which ends no worker, and would wait for it without end.
            eventually(lambda: output.read_text().count(ready) == workers, told=output.read_text)
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
from opentelemetry_guard.process import signals as termination

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


SURVIVES = """
import json, os, signal, sys
from support.pipelines import emit, set_up
from opentelemetry_guard import delivery_stats, flush
from opentelemetry_guard.process import signals as termination

set_up()
termination.install()
if sys.argv[1] == "queue":
    emit("queued")
    flush(20.0)  # ends as soon as the backend refuses
elif sys.argv[1] == "processors":
    emit("held")
else:
    [stats] = delivery_stats()
    events = stats.ledger["events"]
    print(json.dumps([events.queued + events.in_flight, events.accepted]))
if len(sys.argv) > 2:
    signal.alarm(50)
    os.kill(os.getpid(), int(sys.argv[2]))
    while True:
        signal.pause()
"""


def documented_ends() -> list[tuple[str, str, str]]:
    """Return the rows of the documented table."""
    text = (ROOT / "docs/delivery.md").read_text().partition("### What survives which end")[2].partition("###")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [(end.strip("`"), held.strip(), queued.strip()) for end, held, queued in rows[2:]]


@pytest.mark.parametrize(("end", "held", "queued"), documented_ends(), ids=lambda text: text.replace(" ", "-"))
def test_what_survives_is_as_documented(
    end: str, held: str, queued: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(signal, end, None)
    words = [] if number is None else [str(int(number))]
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    # A child inherits what is ignored: the hangup of a test run's terminal, for one.
    before = {each: signal.signal(each, signal.SIG_DFL) for each in (signal.SIGHUP, signal.SIGQUIT)}
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_CORE, (0, limits[1]))
    try:
        with guard_server() as server:
            script = [sys.executable, "-c", SURVIVES]
            settings = {**environment(server, tmp_path), "OTEL_EXPORTER_GUARD_STATUS_INTERVAL": "0"}
            ended = subprocess.run([*script, "processors", *words], env=settings, timeout=WATCHDOG, capture_output=True)
            assert ended.returncode == (-number if number else 0), ended.stderr
            assert {"sent": {"held": 1}, "lost": {}}[held] == reasons(server)
            server.answer(503, headers={"Retry-After": "100"}, times=None)
            ended = subprocess.run([*script, "queue", *words], env=settings, timeout=WATCHDOG, capture_output=True)
            assert ended.returncode == (-number if number else 0), ended.stderr
            read = subprocess.run([*script, "read"], env=settings, timeout=WATCHDOG, capture_output=True, check=True)
            assert json.loads(read.stdout) == [{"kept": 1, "lost": 0}[queued], 1 + len(reasons(server))]
    finally:
        for each, action in (*before.items(), (signal.SIGINT, interrupt)):
            signal.signal(each, action)
        resource.setrlimit(resource.RLIMIT_CORE, limits)


READS = """
import sys
from support.pipelines import emit, set_up
from opentelemetry_guard import GuardLogExporter, delivery_stats, flush
from opentelemetry_guard.process import signals as termination

set_up()
termination.install()
reader = GuardLogExporter()
assert reader.delivery.stats().ledger.keys() == delivery_stats()[0].ledger.keys()
if sys.argv[1] == "fill":
    emit("backlog")
    flush(5.0)
    if sys.argv[2] == "signal":
        import os, signal
        os.kill(os.getpid(), signal.SIGTERM)
else:
    flush(15.0)
"""


@pytest.mark.parametrize("way", ["exit", "signal"])
def test_an_exporter_that_nobody_shuts_down_keeps_nothing_from_the_next_start(way: str, tmp_path: Path) -> None:
    with guard_server() as server:
        script, settings = [sys.executable, "-c", READS], environment(server, tmp_path)
        server.answer(503, times=None)
        subprocess.run([*script, "fill", way], env=settings, timeout=WATCHDOG, check=way == "exit")
        assert not server.events
        server.answer(200, times=None)
        # A lease that is not given up lasts for 20 seconds.
        subprocess.run([*script, "send"], env=settings, timeout=WATCHDOG, check=True)
        assert reasons(server) == {"backlog": 1}


FUNCTION = """
import os
from support.pipelines import emit, set_up
from opentelemetry_guard import flush

set_up()
emit("called")
assert flush(20.0) is True
os._exit(0)
"""


def test_a_function_that_is_frozen_after_its_call_has_sent_what_it_emitted(tmp_path: Path) -> None:
    with guard_server() as server:
        settings = {**environment(server, tmp_path), "OTEL_EXPORTER_GUARD_QUEUE_URL": "memory://"}
        subprocess.run([sys.executable, "-c", FUNCTION], env=settings, timeout=WATCHDOG, check=True)
        assert reasons(server) == {"called": 1}
        assert sum(row["value"] for row in server.metrics) == 1.0


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


@pytest.mark.parametrize("before_it_has_begun", [True, False])
def test_a_signal_in_the_midst_of_an_end_waits_for_what_it_has_to_wait_for(
    before_it_has_begun: bool, stages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main = threading.main_thread().ident or 0
    seconds = process_end._seconds

    def handle(number: int, frame: object) -> None:
        monkeypatch.setattr(process_end, "_seconds", seconds)
        process_end.end()
        stages.append("handled")

    def in_the_midst() -> float:
        signal.raise_signal(signal.SIGUSR1)
        return seconds()

    def act() -> None:
        if not before_it_has_begun:
            signal.pthread_kill(main, signal.SIGUSR1)
        stages.append("ended")

    monkeypatch.setenv("OTEL_EXPORTER_GUARD_SHUTDOWN_TIMEOUT", str(WATCHDOG))
    process_end.on_end(act)
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        if before_it_has_begun:
            monkeypatch.setattr(process_end, "_seconds", in_the_midst)
        process_end.end()
    finally:
        signal.signal(signal.SIGUSR1, before)
        left = process_end.CLOCK.remaining(WATCHDOG)
        process_end.goes_on()
    assert stages == ["ended", "handled"]
    assert left > 0, "they waited for each other until the deadline"


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
    eventually(lambda: stages == ["another"])
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
