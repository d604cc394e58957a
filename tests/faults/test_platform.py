"""Several workers of one queue and a strict server with the platform's limits: what is wasted, and the books."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.faults import SCALE, Json, end, python_environment, read_line, start

from opentelemetry_guard.queue.base import DROPPED_DEAD_LETTER_OVERFLOW, DROPPED_TIMESTAMP

pytestmark = pytest.mark.faults

WORKERS = 3
EVENTS = 1_000_000 if SCALE >= 1 else 20_000
OLD_SHARE = 0.05
"""Share of the events that an earlier version has left, in batches that are larger than the platform takes."""
BUSY = 0.02
"""Share of the requests that are refused with Retry-After."""
WATCHDOG = 1_800.0


@contextmanager
def platform(**limits: float) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    process = start(["-m", "support.platform_server", json.dumps(limits)], python_environment())
    try:
        said = read_line(process)
        assert said is not None
        yield f"http://127.0.0.1:{said['port']}", process
    finally:
        end(process)


def counts(server: subprocess.Popen[str]) -> Json:
    assert server.stdin is not None
    server.stdin.write("\n")
    server.stdin.flush()
    said = read_line(server)
    assert said is not None
    return said


def work(environment: dict[str, str], events: int, workers: int, drain: float) -> Json:
    """Have `workers` accept and send, and return the ledger at the end."""
    share = events // workers
    processes = [
        start(
            ["-m", "faults.platform_worker", json.dumps({"events": share, "worker": number, "drain": drain})],
            python_environment(environment),
        )
        for number in range(1 if drain else 100, (1 if drain else 100) + workers)
    ]
    try:
        for process in processes:
            assert read_line(process, WATCHDOG) == {"accepted": share}
        said = [read_line(process, WATCHDOG) for process in processes]
    finally:
        for process in processes:
            end(process)
    assert said[-1] is not None
    assert said[-1]["drained"] is bool(drain)
    return said[-1]


def test_nothing_is_wasted_and_the_ledger_is_the_servers_count(tmp_path: Path) -> None:
    old = int(EVENTS * OLD_SHARE)
    fresh = (EVENTS - old) // WORKERS * WORKERS
    with platform(busy=BUSY) as (url, server):
        environment = {
            "OTEL_EXPORTER_GUARD_ENDPOINT": url,
            "OTEL_EXPORTER_GUARD_PROJECT_ID": "faults",
            "OTEL_EXPORTER_GUARD_QUEUE_URL": f"sqlite://{tmp_path}/queue/guard.db",
            "OTEL_EXPORTER_GUARD_QUEUE_MAX_BYTES": str(2**30),
            "OTEL_EXPORTER_GUARD_FLEET_SIZE": "1",
        }
        earlier = {"OTEL_EXPORTER_GUARD_MAX_BODY_BYTES": "1000000", "OTEL_EXPORTER_GUARD_BATCH_SIZE": "5000"}
        work({**environment, **earlier}, old, 1, 0.0)
        ledger = work({**environment, "OTEL_EXPORTER_GUARD_API_KEY": "key"}, fresh, WORKERS, WATCHDOG)
        found = counts(server)
    print(json.dumps({"ledger": ledger, "server": found}))
    assert found["answers"].keys() <= {"200", "429", "503"}, "neither 413, 411 nor 400"
    assert found["answers"].keys() & {"429", "503"}
    assert found["largest"] < 262_144
    assert found["twice"] == 0
    assert ledger["accepted"] == old + fresh
    assert ledger["delivered"] == found["kept"]
    assert found["dropped"] > 0
    rejected = ledger["dropped"].get(DROPPED_TIMESTAMP, 0) + ledger["dropped"].get(DROPPED_DEAD_LETTER_OVERFLOW, 0)
    assert ledger["dead_lettered"] + rejected == found["dropped"]
    assert ledger["dropped"].keys() <= {DROPPED_TIMESTAMP, DROPPED_DEAD_LETTER_OVERFLOW}


def test_workers_that_run_learn_a_smaller_limit_from_one_refusal(tmp_path: Path) -> None:
    events = 30_000 if SCALE >= 1 else 6_000
    with platform(max_body=100_000) as (url, server):
        environment = {
            "OTEL_EXPORTER_GUARD_ENDPOINT": url,
            "OTEL_EXPORTER_GUARD_API_KEY": "key",
            "OTEL_EXPORTER_GUARD_PROJECT_ID": "faults",
            "OTEL_EXPORTER_GUARD_QUEUE_URL": f"sqlite://{tmp_path}/queue/guard.db",
            "OTEL_EXPORTER_GUARD_FLEET_SIZE": "1",
        }
        ledger = work(environment, events, WORKERS, WATCHDOG)
        found = counts(server)
    print(json.dumps({"ledger": ledger, "server": found}))
    assert found["answers"].get("413") == 1
    assert found["bytes"]["413"] < 0.05 * sum(found["bytes"].values())
    assert ledger["delivered"] == found["kept"]
    assert ledger["accepted"] == events
