"""A fork in the middle of an interval: what was recorded before it is counted once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

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
