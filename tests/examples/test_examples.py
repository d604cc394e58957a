"""Each example does what its README says, run by the command that is written there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sqlalchemy import make_url
from support.backend import ROOT
from support.commands import environment
from support.example import Example, command_of, running_example
from support.otlp_receiver import otlp_receiver
from support.ports import free_port
from support.redis import eventually, redis_server

from opentelemetry_guard.models import DynamicRules
from opentelemetry_guard.semconv import RULES_REFUSED

pytestmark = pytest.mark.slow

FOLDERS = sorted(path for path in (ROOT / "examples").iterdir() if path.is_dir())
WRONG = {"user": "ada", "password": "?"}
UNLESS_REFUSED = f"{RULES_REFUSED.replace('.', '_')}_total"
"""Is measured from the first rules document on that is refused, of which this backend sends none."""


def signed_in_wrongly(example: Example) -> dict[str, object]:
    """Be refused at the login of the application that most examples share; return the event."""
    assert example.request("/login", "POST", json=WRONG).status_code == 401
    return example.event("authentication_failed")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_folder_has_a_short_readme_with_one_command(folder: Path) -> None:
    prose = re.sub(r"```sh\n.*?```\n", "COMMAND\n", (folder / "README.md").read_text(), flags=re.DOTALL)
    assert command_of(folder)
    assert len([line for line in prose.splitlines() if line]) <= 5
    assert f"({folder.name})" in (ROOT / "examples" / "README.md").read_text()


def test_zero_code(tmp_path: Path) -> None:
    with running_example("zero-code", tmp_path) as example:
        event = signed_in_wrongly(example)
    assert event["endpoint"] == "/login"


def test_fastapi_guard_with_a_ban_of_the_dashboard(tmp_path: Path) -> None:
    with running_example("fastapi-guard", tmp_path) as example:
        assert example.request("/search?q=%27%20UNION%20SELECT%20password%20FROM%20users").status_code == 400
        assert example.event("penetration_attempt")["endpoint"] == "/search"
        visitor = {"X-Forwarded-For": "203.0.113.9"}
        assert example.request("/search", headers=visitor).status_code == 200
        example.set_rules(DynamicRules(ip_blacklist=["203.0.113.9"]))
        example.eventually(lambda: example.request("/search", headers=visitor).status_code == 403)


def test_a_pipeline_of_ones_own(tmp_path: Path) -> None:
    with running_example("own-pipeline", tmp_path) as example:
        assert example.request("/admin").status_code == 403
        event = example.event("access_denied")
        assert example.event("application_started")["reason"] == "by hand"
        metadata = event["metadata"]
        example.eventually(lambda: f'"trace_id": "0x{metadata["trace_id"]}"' in example.output())


def test_otlp_and_guard_side_by_side(tmp_path: Path) -> None:
    with running_example("otlp-and-guard", tmp_path, RECEIVER_PORT=str(free_port())) as example:
        signed_in_wrongly(example)
        example.eventually(lambda: re.search("OTLP: .*guard.event.type", example.output()))


def test_the_agent_of_the_documents(tmp_path: Path) -> None:
    with running_example("agent", tmp_path) as example:
        assert example.request("/report", "POST").json() == {"running": True}
        assert example.event("custom_rule_triggered")["reason"] == "reported by hand"


def test_a_transport_of_ones_own(tmp_path: Path) -> None:
    with running_example("custom-transport", tmp_path) as example:
        assert example.process.wait(60) == 0, example.output()
        assert '{"event": "ip_banned", "address": "203.0.113.7"}' in example.output()
        assert '{"metric": "threat_level", "value": 0.9}' in example.output()


def test_a_processor_of_ones_own(tmp_path: Path) -> None:
    with running_example("custom-processor", tmp_path) as example:
        assert example.request("/health").status_code == 403
        assert example.request("/payments").status_code == 403
        assert example.event("access_denied")["metadata"]["team"] == "payments"


def test_a_queue_of_ones_own(tmp_path: Path) -> None:
    packages = str(tmp_path / "packages")
    pip = {"PIP_TARGET": packages, "PIP_NO_BUILD_ISOLATION": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    with running_example("custom-queue", tmp_path, **pip, PYTHONPATH=f"{ROOT}:{packages}") as example:
        signed_in_wrongly(example)
        assert "journal: 1 events in batch" in example.output()


@pytest.fixture
def redis_url() -> Iterator[str]:
    with redis_server() as server:
        yield server.url


def test_gunicorn_workers_on_one_redis(tmp_path: Path, redis_url: str) -> None:
    with running_example("gunicorn-redis", tmp_path, REDIS_URL=redis_url) as example:
        signed_in_wrongly(example)


def test_a_celery_worker(tmp_path: Path) -> None:
    with running_example("celery", tmp_path, BROKER_DIRECTORY=str(tmp_path / "broker")) as example:
        assert example.event("content_filtered")["endpoint"] == "holiday.exe.png"


def test_declarative_configuration(tmp_path: Path) -> None:
    with running_example("declarative", tmp_path) as example:
        signed_in_wrongly(example)


def test_durable_otlp_delivers_in_a_later_run_what_an_outage_has_kept(tmp_path: Path) -> None:
    folder = tmp_path / "durable-otlp"
    shutil.copytree(ROOT / "examples" / "durable-otlp", folder)

    def printed(port: int) -> str:
        endpoint = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{port}/v1/traces"}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        settings = environment(tmp_path, PATH=path, OTEL_EXPORTER_GUARD_SHUTDOWN_TIMEOUT="3", **endpoint)
        ran = subprocess.run(
            ["sh", "-c", command_of(folder)], cwd=folder, env=settings, capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    port = free_port()
    assert "delivered so far: 0, waiting: 1" in printed(port)
    with otlp_receiver(port):
        assert "delivered so far: 2, waiting: 0" in printed(port)


def test_the_file_of_events_has_ecs_documents(tmp_path: Path) -> None:
    with running_example("event-log", tmp_path) as example:
        signed_in_wrongly(example)
        file = tmp_path / "event-log" / "events.ndjson"
        line = json.loads(example.eventually(lambda: file.exists() and file.read_text().splitlines())[0])
    assert (line["event"]["action"], line["url"]["path"]) == ("authentication_failed", "/login")


def test_what_ships_the_file_of_events_can_be_read() -> None:
    folder = ROOT / "examples" / "event-log"
    promtail = yaml.safe_load((folder / "promtail.yml").read_text())
    filebeat = yaml.safe_load((folder / "filebeat.yml").read_text())
    assert promtail["scrape_configs"][0]["static_configs"][0]["labels"]["__path__"].endswith("events.ndjson")
    assert filebeat["filebeat.inputs"][0]["paths"][0].endswith("events.ndjson")


def test_prometheus_has_every_metric_that_the_alerts_and_the_dashboard_ask_for(tmp_path: Path) -> None:
    folder = ROOT / "examples" / "prometheus"
    alerts = yaml.safe_load((folder / "alerts.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((folder / "dashboard.json").read_text())["panels"]
    queries = [rule["expr"] for rule in alerts] + [target["expr"] for panel in panels for target in panel["targets"]]
    without_labels = [re.sub(r"\bby \([^)]*\)|\{[^}]*\}", "", query) for query in queries]
    wanted = {name for query in without_labels for name in re.findall(r"\bguard_\w+", query)}
    assert UNLESS_REFUSED in wanted
    wanted.remove(UNLESS_REFUSED)
    scraped = free_port()
    with running_example("prometheus", tmp_path, OTEL_EXPORTER_PROMETHEUS_PORT=str(scraped)) as example:
        signed_in_wrongly(example)

        def missing() -> set[str]:
            page = example.http.get(f"http://127.0.0.1:{scraped}/metrics", timeout=60).text
            return {name for name in wanted if not re.search(rf"^{name}\{{", page, re.MULTILINE)}

        eventually(lambda: not missing(), told=lambda: f"{missing()} are not measured")


def test_containers_have_nothing_that_they_may_write_but_their_volumes(tmp_path: Path) -> None:
    compose = yaml.safe_load((ROOT / "examples" / "docker-compose" / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        volumes = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert volumes <= set(compose["volumes"]), name
        assert service.get("read_only", name in ("postgresql", "redis")), name
    url = make_url(compose["services"]["backend"]["environment"]["OTEL_GUARD_BACKEND_DATABASE"])
    assert (url.host, url.username) == ("postgresql", compose["services"]["postgresql"]["environment"]["POSTGRES_USER"])
    kinds = {}
    for document in yaml.safe_load_all((ROOT / "examples" / "kubernetes" / "guard.yaml").read_text()):
        kinds[document["kind"]] = document
    pod = kinds["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    claims = {claim["metadata"]["name"] for claim in kinds["StatefulSet"]["spec"]["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == claims | {v["name"] for v in pod["volumes"]}
