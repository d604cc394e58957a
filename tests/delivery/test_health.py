"""Health of the process: as a function, as a FastAPI endpoint and as a dependency."""

from __future__ import annotations

import sys

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from support.guard_server import guard_server

from opentelemetry_guard import GuardLogExporter, GuardSpanExporter
from opentelemetry_guard.delivery.health import health_check, healthz, statuses


def client() -> TestClient:
    app = FastAPI()
    app.add_api_route("/healthz", healthz)

    @app.get("/ready", dependencies=[Depends(healthz)])
    def ready() -> dict[str, bool]:
        return {"ready": True}

    return TestClient(app)


def test_without_an_exporter_there_is_nothing_to_fail() -> None:
    assert health_check()
    assert statuses() == []
    assert client().get("/healthz").json() == {"status": "healthy", "deliveries": []}


def test_a_delivery_that_works_is_healthy_and_one_that_lacks_its_key_has_failed() -> None:
    with guard_server() as server:
        one = GuardLogExporter(**server.settings)
        http = client()
        assert health_check()
        assert http.get("/healthz").json()["status"] == "healthy"
        assert http.get("/ready").json() == {"ready": True}
        two = GuardLogExporter(**{**server.settings, "api_key": None, "project_id": "other"})
        assert not health_check()
        answer = http.get("/healthz")
        assert answer.status_code == 503
        assert answer.json()["detail"]["status"] == "failed"
        assert "OTEL_EXPORTER_GUARD_API_KEY" in answer.json()["detail"]["deliveries"][1]["errors"][0]
        assert http.get("/ready").status_code == 503
        two.shutdown()
        assert health_check()
        one.shutdown()


def test_a_wrong_variable_that_switches_export_off_is_a_failure_until_the_exporter_is_shut_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_GUARD_TIMEOUT", "soon")
    exporters = [GuardLogExporter(), GuardSpanExporter()]
    [status] = statuses()
    assert status.status == "failed"
    assert "OTEL_EXPORTER_GUARD_TIMEOUT" in status.errors[0]
    assert not health_check()
    assert client().get("/healthz").status_code == 503
    for exporter in exporters:
        exporter.shutdown()
    assert health_check()


def test_the_module_needs_no_fastapi() -> None:
    import subprocess

    program = (
        "import sys, opentelemetry_guard.delivery.health; "
        "sys.exit('fastapi' in sys.modules or 'starlette' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
