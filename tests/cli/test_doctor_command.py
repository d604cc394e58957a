"""`opentelemetry-guard doctor`: it finds what keeps events from arriving, and says what to do about it."""

from __future__ import annotations

import http.server
import json
import socketserver
import sqlite3
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from importlib import metadata
from pathlib import Path

import pytest
from support.backend import RunningBackend, running_backend
from support.commands import run, settings_of
from support.redis import redis_server

from opentelemetry_guard.cli.diagnosis import connection, environment, packages, rules
from opentelemetry_guard.cli.diagnosis.config_file import read_config_file
from opentelemetry_guard.cli.diagnosis.connection import check_connection
from opentelemetry_guard.cli.diagnosis.packages import check_packages
from opentelemetry_guard.cli.diagnosis.rules import check_rules
from opentelemetry_guard.cli.diagnosis.store import check_store
from opentelemetry_guard.cli.doctor import diagnose
from opentelemetry_guard.decision import cloud
from opentelemetry_guard.models import DynamicRules
from opentelemetry_guard.settings.delivery import DestinationSettings, GuardConfig
from opentelemetry_guard.settings.durable import DurableConfig


@pytest.fixture(scope="module")
def backend() -> Iterator[RunningBackend]:
    with running_backend() as running:
        yield running


def diagnosed(home: Path, *arguments: str, **variables: str) -> tuple[int, list[dict[str, str]]]:
    result = run(home, "doctor", "--json", *arguments, **variables)
    assert result.stderr == ""
    found: list[dict[str, str]] = json.loads(result.stdout)["findings"]
    return result.returncode, found


def worst(findings: list[dict[str, str]]) -> list[dict[str, str]]:
    return [finding for finding in findings if finding["level"] != "ok"]


def test_a_healthy_service_is_healthy(tmp_path: Path, backend: RunningBackend) -> None:
    before = len(backend.events("doctor_test"))
    code, findings = diagnosed(tmp_path, **settings_of(backend))
    assert worst(findings) == []
    assert code == 0
    assert len(backend.events("doctor_test")) == before + 1


def test_what_run_sets_itself_is_no_problem(tmp_path: Path, backend: RunningBackend) -> None:
    code, findings = diagnosed(tmp_path, "--no-send", **backend.environment)
    assert (code, worst(findings)) == (0, [])
    (start,) = [finding for finding in findings if finding["subject"] == "start command"]
    for word in ("run sets OTEL_LOGS_EXPORTER", "opentelemetry-instrument", "--show", "configure()"):
        assert word in start["message"]


def test_an_environment_for_opentelemetry_instrument_is_told_what_it_lacks(
    tmp_path: Path, backend: RunningBackend
) -> None:
    code, findings = diagnosed(tmp_path, "--no-send", **backend.environment, OTEL_TRACES_EXPORTER="guard")
    lacking = ["OTEL_LOGS_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_SEMCONV_STABILITY_OPT_IN"]
    found = {finding["subject"]: finding for finding in worst(findings)}
    assert (code, sorted(found)) == (0, lacking)
    assert "opentelemetry-guard run" in found["OTEL_LOGS_EXPORTER"]["remedy"]


def test_without_a_key_the_start_with_one_of_its_own_is_named(tmp_path: Path) -> None:
    code, findings = diagnosed(tmp_path, "--no-send", OTEL_EXPORTER_GUARD_ENDPOINT="http://127.0.0.1:1")
    (found,) = [finding for finding in worst(findings) if finding["subject"] == "OTEL_EXPORTER_GUARD_API_KEY"]
    assert (code, found["level"]) == (1, "problem")
    assert "run --local" in found["message"]


def test_the_test_event_is_marked_and_left_out_of_the_statistics(tmp_path: Path, backend: RunningBackend) -> None:
    assert diagnosed(tmp_path, **settings_of(backend))[0] == 0
    assert backend.events("doctor_test")[-1]["metadata"]["test"] is True
    with closing(sqlite3.connect(backend.db)) as database:
        assert database.execute("SELECT COUNT(*) FROM event_minutes").fetchall() == [(0,)]


def test_an_extra_that_a_setting_needs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
    found = [
        finding
        for finding in environment.check_environment(None, {"OTEL_PYTHON_GUARD_RESOURCE_METRICS": "true"})
        if "[resources]" in finding.remedy
    ]
    assert [(finding.level, finding.subject) for finding in found] == [
        ("warning", "OTEL_PYTHON_GUARD_RESOURCE_METRICS")
    ]


def test_rules_that_need_a_package_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in ("re2", "guard_core"):
        monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(cloud, "_is_installed", lambda: False)
    monkeypatch.setattr(rules.importlib.util, "find_spec", lambda name: None)
    with running_backend() as running:
        config = GuardConfig.resolve(endpoint=running.url, api_key=running.api_key, project_id=running.project)
        running.set_rules(DynamicRules(ip_blacklist=["192.0.2.7"], suspicious_patterns=["/admin"]))
        assert [finding.level for finding in check_rules(config)] == ["ok"]
        running.set_rules(DynamicRules(suspicious_patterns=["(a+)+$"], blocked_cloud_providers=["AWS"]))
        found = {finding.remedy: finding.message for finding in check_rules(config)}
    assert list(found) == [f"pip install 'opentelemetry-guard[{extra}]'" for extra in ("patterns", "fastapi-guard")]
    assert "(a+)+$" in found["pip install 'opentelemetry-guard[patterns]'"]


def test_rules_that_can_be_enforced_as_a_whole_are_well(tmp_path: Path) -> None:
    with running_backend() as running:
        running.set_rules(DynamicRules(ip_blacklist=["192.0.2.7"]))
        code, findings = diagnosed(tmp_path, **settings_of(running))
        assert (code, worst(findings)) == (0, [])
        assert [found["message"] for found in findings if found["subject"] == "rules"] == [
            "version 1 can be enforced as a whole"
        ]
        running.set_rules(DynamicRules(ip_blacklist=["nonsense"]))
        (found,) = worst(diagnosed(tmp_path, "--no-send", **settings_of(running))[1])
        assert (found["level"], found["subject"]) == ("warning", "rules")
        assert "nonsense" in found["message"]


def test_a_clients_key_without_its_certificate_is_found(tmp_path: Path, backend: RunningBackend) -> None:
    pem = make_certificate(tmp_path, "client")
    code, findings = diagnosed(tmp_path, "--no-send", **settings_of(backend), OTEL_EXPORTER_GUARD_CLIENT_KEY=str(pem))
    (found,) = worst(findings)
    assert (code, found["level"], found["subject"]) == (1, "problem", "OTEL_EXPORTER_GUARD_CLIENT_KEY")
    assert "OTEL_EXPORTER_GUARD_CLIENT_CERTIFICATE" in found["message"]


def test_a_configuration_file_whose_package_is_missing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.configuration", None)
    (found,) = read_config_file("/etc/otel.yaml").findings
    assert (found.level, found.subject) == ("problem", "OTEL_CONFIG_FILE")
    assert found.remedy == "pip install 'opentelemetry-guard[declarative]'"


def test_people_read_a_line_for_each_finding(tmp_path: Path, backend: RunningBackend) -> None:
    result = run(tmp_path, "doctor", **settings_of(backend))
    assert result.returncode == 0
    assert "ok       OTEL_EXPORTER_GUARD_API_KEY: is accepted" in result.stdout
    assert result.stdout.endswith("0 problems, 0 warnings\n")


def test_without_a_test_event_nothing_is_sent(tmp_path: Path, backend: RunningBackend) -> None:
    before = len(backend.events())
    assert diagnosed(tmp_path, "--no-send", **settings_of(backend))[0] == 0
    assert len(backend.events()) == before


def test_it_leaves_nothing_behind(tmp_path: Path, backend: RunningBackend) -> None:
    diagnosed(tmp_path, **settings_of(backend))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] in ([], ["install-id"])


@pytest.mark.parametrize(
    ("planted", "level", "subject", "remedy"),
    [
        pytest.param(
            {"OTEL_EXPORTER_GUARD_API_KEY": "wrong"},
            "problem",
            "OTEL_EXPORTER_GUARD_API_KEY",
            "OTEL_EXPORTER_GUARD_API_KEY",
            id="wrong key",
        ),
        pytest.param(
            {"OTEL_EXPORTER_GUARD_ENDPOINT": "http://no-such-host.invalid"},
            "problem",
            "OTEL_EXPORTER_GUARD_ENDPOINT",
            "OTEL_EXPORTER_GUARD_ENDPOINT",
            id="wrong host",
        ),
        pytest.param(
            {"OTEL_LOGS_EXPORTER": "none"},
            "problem",
            "OTEL_LOGS_EXPORTER",
            "OTEL_LOGS_EXPORTER=guard",
            id="exporter not selected",
        ),
        pytest.param(
            {"OTEL_TRACES_EXPORTER": "guard,zipkin"},
            "problem",
            "OTEL_TRACES_EXPORTER",
            "opentelemetry-exporter-zipkin",
            id="missing exporter package",
        ),
        pytest.param(
            {"OTEL_EXPORTER_GUARD_QUEUE_URL": "redis://127.0.0.1:1/0"},
            "problem",
            "OTEL_EXPORTER_GUARD_QUEUE_URL",
            "OTEL_EXPORTER_GUARD_QUEUE_URL",
            id="Redis down",
        ),
        pytest.param(
            {"OTEL_EXPORTER_GUARD_QUEUE_URL": "sqlite:///proc/queue/guard.db"},
            "problem",
            "OTEL_EXPORTER_GUARD_QUEUE_URL",
            "writable",
            id="read-only directory",
        ),
        pytest.param(
            {"OTEL_EXPORTER_GUARD_APIKEY": "x"},
            "problem",
            "OTEL_EXPORTER_GUARD_APIKEY",
            "OTEL_EXPORTER_GUARD_API_KEY",
            id="unknown setting",
        ),
        pytest.param(
            {"OTEL_EXPORTER_GUARD_TIMEOUT": "soon"},
            "problem",
            "OTEL_EXPORTER_GUARD_TIMEOUT",
            "OTEL_EXPORTER_GUARD_TIMEOUT",
            id="wrong setting",
        ),
        pytest.param(
            {"OTEL_PYTHON_GUARD_TRUSTED_PROXIES": "the office"},
            "problem",
            "OTEL_PYTHON_GUARD_TRUSTED_PROXIES",
            "OTEL_PYTHON_GUARD_TRUSTED_PROXIES",
            id="wrong option",
        ),
        pytest.param(
            {"OTEL_SDK_DISABLED": "true"}, "problem", "OTEL_SDK_DISABLED", "unset OTEL_SDK_DISABLED", id="disabled"
        ),
        pytest.param(
            {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "guard"},
            "warning",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
            id="instrumentation off",
        ),
    ],
)
def test_a_planted_fault_is_found_with_its_remedy(
    tmp_path: Path, backend: RunningBackend, planted: dict[str, str], level: str, subject: str, remedy: str
) -> None:
    code, findings = diagnosed(tmp_path, **{**settings_of(backend), **planted})
    found = [finding for finding in worst(findings) if finding["subject"] == subject]
    assert [(finding["level"], remedy in finding["remedy"]) for finding in found] == [(level, True)]
    assert code == (1 if level == "problem" else 0)


def test_proxies_that_are_not_told_are_mentioned(tmp_path: Path, backend: RunningBackend) -> None:
    _, findings = diagnosed(tmp_path, "--no-send", **settings_of(backend))
    (found,) = [finding for finding in findings if finding["subject"] == "OTEL_PYTHON_GUARD_TRUSTED_PROXIES"]
    assert "X-Forwarded-For is ignored" in found["message"]
    settings = {**settings_of(backend), "OTEL_PYTHON_GUARD_TRUSTED_PROXIES": "10.0.0.0/8"}
    _, findings = diagnosed(tmp_path, "--no-send", **settings)
    assert not any("X-Forwarded-For is ignored" in finding["message"] for finding in findings)


def test_an_endpoint_with_api_v1_is_found(tmp_path: Path, backend: RunningBackend) -> None:
    settings = {**settings_of(backend), "OTEL_EXPORTER_GUARD_ENDPOINT": f"{backend.url}/api/v1"}
    code, findings = diagnosed(tmp_path, **settings)
    (found,) = worst(findings)
    assert (found["level"], found["subject"]) == ("warning", "OTEL_EXPORTER_GUARD_ENDPOINT")
    assert found["remedy"] == f"set OTEL_EXPORTER_GUARD_ENDPOINT={backend.url}"
    assert code == 0


def test_an_endpoint_that_is_no_base_url_is_found(tmp_path: Path, backend: RunningBackend) -> None:
    settings = {**settings_of(backend), "OTEL_EXPORTER_GUARD_ENDPOINT": f"{backend.url}/api/v1/events"}
    code, findings = diagnosed(tmp_path, **settings)
    address, event = worst(findings)
    assert code == 1
    assert (address["subject"], event["subject"]) == ("OTEL_EXPORTER_GUARD_ENDPOINT", "test event")
    assert "OTEL_EXPORTER_GUARD_ENDPOINT" in event["remedy"]


def test_https_to_a_port_without_it_is_found(tmp_path: Path) -> None:
    with answering() as url:
        code, findings = diagnosed(tmp_path, "--no-send", **settings_at(url.replace("http:", "https:")))
    (found,) = worst(findings)
    assert (code, found["subject"], found["message"]) == (1, "TLS", "127.0.0.1 speaks no TLS on this port")
    assert "OTEL_EXPORTER_GUARD_ENDPOINT" in found["remedy"]


def test_a_variable_that_names_no_certificates_is_found(tmp_path: Path) -> None:
    with answering(certificate=make_certificate(tmp_path, "127.0.0.1")) as url:
        others = dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), "")
        code, findings = diagnosed(tmp_path, "--no-send", **settings_at(url), **others, SSL_CERT_FILE="/nowhere/ca.pem")
    (found,) = worst(findings)
    assert (code, found["subject"]) == (1, "TLS")
    assert "SSL_CERT_FILE" in found["message"]


def test_a_backend_that_drips_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SECONDS", 0.5)
    with dripping() as url:
        config = GuardConfig.resolve({}, endpoint=url, api_key="key")
        *_, found = check_connection(config)
    assert (found.level, found.subject) == ("problem", "OTEL_EXPORTER_GUARD_ENDPOINT")
    assert "gives no answer" in found.message


def test_a_setting_unlike_any_other_gets_no_guess(tmp_path: Path, backend: RunningBackend) -> None:
    _, findings = diagnosed(tmp_path, "--no-send", **settings_of(backend), OTEL_EXPORTER_GUARD_COFFEE="black")
    (found,) = worst(findings)
    assert found["remedy"].startswith("unset OTEL_EXPORTER_GUARD_COFFEE")


def test_bytes_that_are_no_text_leave_the_output_json(tmp_path: Path, backend: RunningBackend) -> None:
    settings = {**settings_of(backend), "OTEL_TRACES_EXPORTER": "guard,\udcff\x1b[31m"}
    code, findings = diagnosed(tmp_path, "--no-send", **settings)
    assert (code, [finding["subject"] for finding in worst(findings)]) == (1, ["OTEL_TRACES_EXPORTER"])


DECLARATIVE = """
file_format: "1.0"
propagator: {composite: [{tracecontext: null}]}
tracer_provider:
  processors: [{batch: {exporter: {guard: null}}}]
meter_provider:
  readers: [{periodic: {exporter: {guard: null}}}]
logger_provider:
  processors: [{batch: {exporter: {EXPORTER: {api_key: KEY, project_id: PROJECT}}}}]
"""


def declare(directory: Path, backend: RunningBackend, exporter: str) -> dict[str, str]:
    """Write a declarative configuration with key and project, and return the settings that go with it."""
    file = directory / "otel.yaml"
    text = DECLARATIVE.replace("EXPORTER", exporter).replace("KEY", backend.api_key).replace("PROJECT", backend.project)
    file.write_text(text)
    return {
        "OTEL_CONFIG_FILE": str(file),
        "OTEL_EXPORTER_GUARD_ENDPOINT": backend.url,
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
    }


def test_a_configuration_file_stands_in_for_the_variables(tmp_path: Path, backend: RunningBackend) -> None:
    code, findings = diagnosed(tmp_path, **declare(tmp_path, backend, "guard"))
    assert (code, worst(findings)) == (0, [])
    assert "test event" in [finding["subject"] for finding in findings]


def test_a_configuration_file_without_the_exporter_is_found(tmp_path: Path, backend: RunningBackend) -> None:
    settings = {**declare(tmp_path, backend, "console"), "OTEL_EXPORTER_GUARD_API_KEY": backend.api_key}
    settings["OTEL_EXPORTER_GUARD_PROJECT_ID"] = backend.project
    code, findings = diagnosed(tmp_path, **settings)
    found = worst(findings)
    assert (code, [finding["subject"] for finding in found]) == (1, ["OTEL_CONFIG_FILE"])


def test_a_configuration_file_without_a_propagator_is_found(tmp_path: Path, backend: RunningBackend) -> None:
    settings = declare(tmp_path, backend, "guard")
    file = Path(settings["OTEL_CONFIG_FILE"])
    file.write_text("".join(line for line in file.open() if not line.startswith("propagator")))
    code, findings = diagnosed(tmp_path, **settings)
    (found,) = worst(findings)
    assert (code, found["subject"]) == (1, "OTEL_CONFIG_FILE")
    assert "propagator" in found["remedy"]


@pytest.mark.parametrize("text", ["planted: [", "file_format: {planted: 1}", "planted", None])
def test_a_configuration_file_that_is_none_is_found_and_not_quoted(
    tmp_path: Path, backend: RunningBackend, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "otel.yaml").write_text(text)
    settings = {**settings_of(backend), "OTEL_CONFIG_FILE": str(tmp_path / "otel.yaml")}
    code, findings = diagnosed(tmp_path, "--no-send", **settings)
    (found,) = worst(findings)
    assert (code, found["subject"]) == (1, "OTEL_CONFIG_FILE")
    assert "planted" not in json.dumps(findings)


def test_what_can_not_be_loaded_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry_guard.settings.delivery", None)
    *_, found = diagnose()
    assert (found.level, found.subject) == ("problem", "opentelemetry-guard")


def test_a_package_that_only_another_one_needs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "opentelemetry-instrumentation-asgi":
            raise metadata.PackageNotFoundError(name)
        return metadata.version(name)

    monkeypatch.setattr(packages, "version", version)
    found = [finding for finding in check_packages() if finding.level == "problem"]
    assert [finding.subject for finding in found] == ["opentelemetry-instrumentation-asgi"]
    assert "opentelemetry-instrumentation-fastapi needs it" in found[0].message


def test_a_missing_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "opentelemetry-distro":
            raise metadata.PackageNotFoundError(name)
        return metadata.version(name)

    monkeypatch.setattr(packages, "version", version)
    (found,) = [finding for finding in check_packages() if finding.level == "problem"]
    assert (found.subject, found.remedy) == ("opentelemetry-distro", "pip install 'opentelemetry-guard[auto]'")


def test_a_clock_that_is_off_is_found(tmp_path: Path) -> None:
    with answering(timedelta(minutes=-10)) as url:
        code, findings = diagnosed(tmp_path, "--no-send", **settings_at(url))
    (found,) = worst(findings)
    assert (code, found["level"], found["subject"]) == (1, "problem", "clock")
    assert "ahead of the backend's" in found["message"]
    assert "NTP" in found["remedy"]


def test_a_certificate_of_another_name_is_found(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "guard.example")
    with answering(certificate=certificate) as url:
        settings = {**settings_at(url), "OTEL_EXPORTER_GUARD_CERTIFICATE": str(certificate)}
        code, findings = diagnosed(tmp_path, "--no-send", **settings)
    (found,) = worst(findings)
    assert (code, found["level"], found["subject"]) == (1, "problem", "TLS")
    assert "127.0.0.1" in found["message"]
    assert "OTEL_EXPORTER_GUARD_ENDPOINT" in found["remedy"]


def test_an_authority_that_is_not_trusted_is_found(tmp_path: Path) -> None:
    with answering(certificate=make_certificate(tmp_path, "127.0.0.1")) as url:
        code, findings = diagnosed(tmp_path, "--no-send", **settings_at(url))
    (found,) = worst(findings)
    assert (code, found["subject"]) == (1, "TLS")
    assert "OTEL_EXPORTER_GUARD_CERTIFICATE" in found["remedy"]


def test_a_working_redis_is_well(tmp_path: Path, backend: RunningBackend) -> None:
    with redis_server(password="hunter2") as server:
        code, findings = diagnosed(tmp_path, **settings_of(backend), OTEL_EXPORTER_GUARD_QUEUE_URL=server.url)
        client = server.client()
        assert client.keys() == []
        client.close()
    assert worst(findings) == []
    assert code == 0
    assert "hunter2" not in json.dumps(findings)


def test_missing_permissions_in_redis_are_found(tmp_path: Path, backend: RunningBackend) -> None:
    with redis_server() as server:
        client = server.client()
        client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+ping", "+get")
        client.close()
        url = f"redis://reader:secret@127.0.0.1:{server.port}/0"
        code, findings = diagnosed(tmp_path, **settings_of(backend), OTEL_EXPORTER_GUARD_QUEUE_URL=url)
    found = [finding for finding in findings if finding["level"] == "problem"]
    assert code == 1
    assert [finding["subject"] for finding in found] == ["OTEL_EXPORTER_GUARD_QUEUE_URL"]
    assert "+@scripting" in found[0]["remedy"]


def test_a_server_that_is_no_cluster_is_found(tmp_path: Path, backend: RunningBackend) -> None:
    with redis_server() as server:
        url = f"redis+cluster://127.0.0.1:{server.port}"
        code, findings = diagnosed(tmp_path, **settings_of(backend), OTEL_EXPORTER_GUARD_QUEUE_URL=url)
    (found,) = worst(findings)
    assert (code, found["subject"]) == (1, "OTEL_EXPORTER_GUARD_QUEUE_URL")
    assert "Cluster mode is not enabled" in found["message"]


def test_a_password_in_a_malformed_queue_url_is_masked(tmp_path: Path, backend: RunningBackend) -> None:
    result = run(tmp_path, "doctor", **settings_of(backend), OTEL_EXPORTER_GUARD_QUEUE_URL="redis://:planted")
    assert result.returncode == 1
    assert "planted" not in result.stdout + result.stderr


def test_secrets_are_masked(tmp_path: Path, backend: RunningBackend) -> None:
    secrets = {
        "OTEL_EXPORTER_GUARD_HEADERS": "authorization=Bearer%20planted-1",
        "OTEL_EXPORTER_GUARD_SIGNING_SECRET": "planted-2",
        "OTEL_EXPORTER_GUARD_QUEUE_URL": "redis://:planted-3@127.0.0.1:1/0",
    }
    result = run(tmp_path, "doctor", **{**settings_of(backend), **secrets, "OTEL_EXPORTER_GUARD_API_KEY": "planted-4"})
    assert result.returncode == 1
    assert "planted" not in result.stdout + result.stderr


def settings_at(url: str) -> dict[str, str]:
    return {
        "OTEL_TRACES_EXPORTER": "guard",
        "OTEL_LOGS_EXPORTER": "guard",
        "OTEL_METRICS_EXPORTER": "guard",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
        "OTEL_EXPORTER_GUARD_ENDPOINT": url,
        "OTEL_EXPORTER_GUARD_API_KEY": "key",
    }


@contextmanager
def answering(skew: timedelta = timedelta(), certificate: Path | None = None) -> Iterator[str]:
    """Run a server that has no rules, with a clock of its own and a certificate of its own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return format_datetime(datetime.now(timezone.utc) + skew, usegmt=True)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def dripping() -> Iterator[str]:
    """Run a server whose answer never ends: one byte of a header at a time, each well within a socket's timeout."""
    ended = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nX-Never: ")
            while not ended.wait(0.05):
                try:
                    self.request.sendall(b"x")
                except OSError:
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            ended.set()
            server.shutdown()
            thread.join()


def make_certificate(directory: Path, name: str) -> Path:
    """Write a self-signed certificate for `name` and its key into one file."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{name}.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.mark.parametrize("config", [GuardConfig(queue_url="memory://"), DurableConfig(queue_url="memory://")])
def test_a_queue_in_memory_is_a_warning_in_the_words_of_its_variable(config: DestinationSettings) -> None:
    variable = f"{config.PREFIX}QUEUE_URL"
    (finding,) = check_store(config)
    assert (finding.level, finding.subject) == ("warning", variable)
    assert finding.remedy == f"unset {variable}, or name a store"
