"""`configure()`: an application that sets OpenTelemetry up in code gets everything by one line."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.commands import environment
from support.guard_server import GuardServer, guard_server

import opentelemetry_guard
from opentelemetry_guard.instrumentation import GuardInstrumentor

REQUEST = """
    from fastapi import FastAPI, HTTPException
    from fastapi.testclient import TestClient
    from opentelemetry_guard import emit_event, record_metric

    app = FastAPI()

    @app.get("/admin")
    def admin():
        raise HTTPException(403)

    TestClient(app).get("/admin")
    record_metric(metric_type="threat_level", value=0.5)
"""

OWN_PROVIDERS = """
    from opentelemetry import _logs, metrics, trace
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    _logs.set_logger_provider(LoggerProvider())
    metrics.set_meter_provider(MeterProvider())
    trace.set_tracer_provider(TracerProvider())
"""

CONFIGURE = """
    import opentelemetry_guard
    opentelemetry_guard.configure()
"""


def ran(directory: Path, server: GuardServer, *parts: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run an application made of `parts` to its ordinary end."""
    code = "\n".join(textwrap.dedent(part) for part in parts)
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment(
            directory,
            **{**server.environment, "XDG_STATE_HOME": str(directory), "PYTHONWARNINGS": "ignore", **variables},
        ),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("before", [OWN_PROVIDERS, ""], ids=["own providers", "no providers"])
def test_one_line_delivers_events_of_answers_and_metrics_by_the_end_of_the_process(tmp_path: Path, before: str) -> None:
    with guard_server() as server:
        done = ran(tmp_path, server, before, CONFIGURE, REQUEST)
        assert (done.returncode, done.stderr) == (0, "")
        assert [event["event_type"] for event in server.events] == ["access_denied"]
        assert "threat_level" in [row["metric_type"] for row in server.metrics]


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    with guard_server() as server:
        done = ran(tmp_path, server, OWN_PROVIDERS, CONFIGURE, CONFIGURE, REQUEST)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(server.events) == 1
        levels = [row["value"] for row in server.metrics if row["metric_type"] == "threat_level"]
        assert sorted(levels) == [0.4, 0.5]  # the request's, and what was recorded


def test_an_exporter_that_is_there_is_not_added_again(tmp_path: Path) -> None:
    own = """
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
        from opentelemetry_guard import GuardLogExporter
        _logs.get_logger_provider().add_log_record_processor(BatchLogRecordProcessor(GuardLogExporter()))
    """
    count = """
        from opentelemetry_guard.exporters.lookup import ways_to
        from opentelemetry_guard import GuardLogExporter
        print(len(ways_to(_logs.get_logger_provider(), GuardLogExporter)))
    """
    with guard_server() as server:
        done = ran(tmp_path, server, OWN_PROVIDERS, own, CONFIGURE, count)
        assert done.stdout == "1\n", done.stderr


def test_flush_reaches_the_reader_that_was_added(tmp_path: Path) -> None:
    flush = "import os\nassert opentelemetry_guard.flush(20)\nos._exit(0)"
    with guard_server() as server:
        done = ran(tmp_path, server, OWN_PROVIDERS, CONFIGURE, REQUEST, flush)
        assert done.returncode == 0, done.stderr
        assert len(server.events) == 1
        assert "threat_level" in [row["metric_type"] for row in server.metrics]


def test_keywords_are_settings_of_exporters_instrumentation_and_privacy(tmp_path: Path) -> None:
    configure = """
        import opentelemetry_guard
        opentelemetry_guard.configure(project_id="shop", http_events=False, capture_content=True)
    """
    emit = "emit_event(event_type='ip_blocked')"
    with guard_server() as server:
        done = ran(tmp_path, server, configure, REQUEST, emit)
        assert done.returncode == 0, done.stderr
        assert [event["event_type"] for event in server.events] == ["ip_blocked"]
        assert {
            request.document.get("project_id") for request in server.requests if request.path.endswith("events")
        } == {"shop"}


def test_a_short_script_reads_a_line_when_the_backend_is_away_and_one_when_it_is_back(tmp_path: Path) -> None:
    until_sent = """
        from opentelemetry_guard import delivery_stats, emit_event
        from opentelemetry_guard.process import end

        emit_event(event_type="ip_blocked")
        while not any(stats.ledger["events"].delivered for stats in delivery_stats()):
            end.flush(10.0)
    """
    with guard_server() as server:
        server.answer(500, times=3)
        done = ran(tmp_path, server, CONFIGURE, until_sent)
    begun, over = [line for line in done.stderr.splitlines() if "Guard" in line]
    assert begun.startswith("the Guard backend can't be used now, for ")
    assert over.endswith(" again")


def test_a_script_against_a_dead_backend_reads_one_line(tmp_path: Path) -> None:
    emit = "from opentelemetry_guard import emit_event; emit_event(event_type='ip_blocked')"
    with guard_server() as server:
        done = ran(tmp_path, server, CONFIGURE, emit, OTEL_EXPORTER_GUARD_ENDPOINT="http://127.0.0.1:1")
    (line,) = done.stderr.splitlines()
    assert line.startswith("the Guard backend can't be used now, for ")


def test_an_unknown_setting_of_the_instrumentor_is_an_error_that_names_all_that_there_are() -> None:
    with pytest.raises(
        TypeError, match=r"no setting 'nonsense'; the settings are .*capture_content.*logger_provider.*trusted_proxies"
    ):
        GuardInstrumentor().instrument(nonsense=1)
    assert not GuardInstrumentor().is_instrumented_by_opentelemetry


def test_an_unknown_setting_is_an_error_that_names_all_that_there_are() -> None:
    with pytest.raises(TypeError, match=r"no setting 'nonsense'; the settings are .*api_key.*trusted_proxies"):
        opentelemetry_guard.configure(nonsense=1)
