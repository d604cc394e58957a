"""A newcomer with a pipeline of OpenTelemetry, of OTLP and Prometheus, adds the README's line to it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.otlp_receiver import otlp_receiver
from support.pages import codes
from support.ports import free_port
from support.terminal import ACTIVATE, Terminal, ban_on_dashboard, newcomer

pytestmark = pytest.mark.slow

INSTALL = codes("README.md", "sh", under="Use it")[1].splitlines(keepends=True)[0]
EXPORTERS = "pip install opentelemetry-exporter-otlp-proto-http opentelemetry-exporter-prometheus prometheus-client\n"
CONFIGURE = next(code for code in codes("README.md", "python") if "configure()" in code)
(BACKEND,) = (code for code in codes("docs/backend.md", "") if code.endswith("\nopentelemetry-guard backend\n"))

PIPELINE = """
import os

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import start_http_server

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(), schedule_delay_millis=100))
trace.set_tracer_provider(provider)
start_http_server(int(os.environ["PROMETHEUS_PORT"]), "127.0.0.1")
metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()]))
"""

APPLICATION = """
from fastapi import FastAPI, HTTPException
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

app = FastAPI()
FastAPIInstrumentor.instrument_app(app)


@app.get("/admin")
def admin() -> None:
    raise HTTPException(403, "not for you")


@app.get("/items/{number}")
def item(number: int) -> dict[str, int]:
    return {"item": number}
"""


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    with newcomer(tmp_path_factory.mktemp("pipeline"), EXPORTERS, INSTALL) as opened:
        yield opened


def test_one_line_in_a_pipeline_ends_with_an_event_and_a_ban_that_holds(terminal: Terminal) -> None:
    (terminal.directory / "main.py").write_text(PIPELINE + CONFIGURE + APPLICATION)
    scraped = free_port()
    attacker = {"X-Forwarded-For": "203.0.113.9"}
    own = {"PROMETHEUS_PORT": str(scraped), "OTEL_PYTHON_GUARD_TRUSTED_PROXIES": "127.0.0.1"}
    with otlp_receiver() as receiver, terminal.running(ACTIVATE + BACKEND.splitlines()[-1], "backend.out") as backend:
        own["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"{receiver.url}/v1/traces"
        backend.eventually(lambda: "PROJECT_ID" in backend.output())
        (dashboard,) = re.findall(r"listening on (\S+)", backend.output())
        # The lines that the backend prints are typed as they are.
        exported = "\n".join(re.findall(r"^ +(export .*)", backend.output(), re.MULTILINE))
        enforced = "export OTEL_PYTHON_GUARD_ENFORCE_RULES=true"
        terminal.environment.update(own)
        with terminal.running(f"{ACTIVATE}{exported}\n{enforced}\nuvicorn main:app") as example:
            example.dashboard = dashboard
            assert example.request("/admin", headers=attacker).status_code == 403
            assert example.event("access_denied")["ip_address"] == "203.0.113.9"
            ban_on_dashboard(example, dashboard, "203.0.113.9")
            example.eventually(lambda: example.request("/items/1", headers=attacker).status_code == 403)
            assert example.request("/items/1").status_code == 200
            assert example.event("ip_blocked")["ip_address"] == "203.0.113.9"
            page = example.http.get(f"http://127.0.0.1:{scraped}/metrics", timeout=60).text
            assert re.search(r"^guard_security_events_total\{", page, re.MULTILINE)
            example.eventually(lambda: receiver.seen()["received"]["spans"])
            assert "Traceback" not in example.output()
