"""A fork in the middle of an interval: what was recorded before it is counted once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.guard_server import guard_server

PROGRAM = """
    import os
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry_guard import Emitter, GuardMetricExporter

    reader = PeriodicExportingMetricReader(GuardMetricExporter(), export_interval_millis=3_600_000)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    emitter = Emitter(meter_provider=provider)
    emitter.record_metric(metric_type="request_count", value=5, endpoint="/before")
    child = os.fork()
    emitter.record_metric(metric_type="request_count", value=2 if child else 3, endpoint="/after")
    provider.shutdown()
    if child == 0:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_metrics_recorded_before_a_fork_are_delivered_once() -> None:
    with guard_server() as server:
        environment = {**os.environ, **server.environment}
        subprocess.run([sys.executable, "-c", textwrap.dedent(PROGRAM)], env=environment, check=True, timeout=60)
        totals: dict[str, float] = {}
        for row in server.metrics:
            totals[row["endpoint"]] = totals.get(row["endpoint"], 0) + row["value"]
    assert totals == {"/before": 5, "/after": 5}
    assert server.violations == []


FORK_IN_A_COLLECTION = """
import os, signal, threading

started, collecting, forked = threading.Event(), threading.Event(), threading.Event()
other = threading.Thread(target=lambda: provider.force_flush(), daemon=True)

def in_the_midst_of_the_fork():
    # Another thread that collects has its turn, if it gets one
    other.start()
    collecting.wait(1.0)

os.register_at_fork(before=in_the_midst_of_the_fork)

from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry_guard.exporters.metric import GuardMetricExporter

def callback(options):
    if threading.current_thread() is other:
        collecting.set()
        forked.wait(5.0)
    return [Observation(1)]

exporter = GuardMetricExporter(endpoint="http://127.0.0.1:1", api_key="k" * 20, queue_url="memory://")
provider = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)])
meter = provider.get_meter("application")
meter.create_observable_counter("first", [callback])
child = os.fork()
if not child:
    signal.alarm(20)  # ends it where it hangs
    meter.create_observable_counter("second", [callback])
    os._exit(0)
forked.set()
assert os.waitpid(child, 0)[1] == 0
other.join(20.0)
assert collecting.is_set(), "after the fork a collection goes on"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_has_no_lock_of_a_collection_that_another_thread_had_begun(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", FORK_IN_A_COLLECTION], env=environment, check=True, timeout=60)
