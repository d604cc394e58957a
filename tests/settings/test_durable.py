"""Settings of the durable exporters: the standard variables as OpenTelemetry's own exporter reads them."""

from __future__ import annotations

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from opentelemetry_guard.settings import late, otlp
from opentelemetry_guard.settings.durable import DurableConfig
from opentelemetry_guard.settings.setting import SettingError


def test_a_signals_own_endpoint_is_used_as_it_is_and_the_common_one_gets_its_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert DurableConfig.of("traces").endpoint == "http://localhost:4318"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318/base/")
    common = DurableConfig.of("logs")
    assert (common.endpoint, common.whole) == ("https://collector:4318/base", False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://other/ingest")
    own = DurableConfig.of("logs")
    assert (own.endpoint, own.whole) == ("https://other/ingest", True)
    assert own.destination != common.destination == DurableConfig.of("traces").destination


def test_the_variables_of_one_signal_come_before_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, common, own in (
        ("TIMEOUT", "20", "30"),
        ("COMPRESSION", "deflate", "GZIP"),
        ("CERTIFICATE", "/ca", "/ca-traces"),
        ("CLIENT_KEY", "/key", "/key-traces"),
        ("CLIENT_CERTIFICATE", "/cert", "/cert-traces"),
    ):
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", common)
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_TRACES_{name}", own)
    traces, logs = DurableConfig.of("traces"), DurableConfig.of("logs")
    assert (traces.timeout, traces.compression, traces.certificate) == (30.0, "gzip", "/ca-traces")
    assert (traces.client_key, traces.client_certificate) == ("/key-traces", "/cert-traces")
    assert (logs.timeout, logs.compression, logs.certificate) == (20.0, "deflate", "/ca")


@pytest.mark.parametrize(
    ("name", "value", "field", "default"),
    [
        ("TIMEOUT", "soon", "timeout", 10.0),
        ("TIMEOUT", "-1", "timeout", 10.0),
        ("COMPRESSION", "lz", "compression", "none"),
    ],
)
def test_a_standard_variable_that_cannot_be_read_is_said_once_and_left_out(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
    field: str,
    default: object,
) -> None:
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    for _ in range(2):
        assert getattr(DurableConfig.of("traces"), field) == default
    assert [record.message.split()[0] for record in caplog.records] == [f"OTEL_EXPORTER_OTLP_{name}"]


def test_a_header_that_cannot_be_read_is_never_quoted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Bearer planted,Api-Key=a%20b, x-two = c d ,x-bad=a%0Aplanted")
    assert otlp.headers("traces") == {"api-key": "a b", "x-two": "c d"}
    assert "planted" not in caplog.text
    assert len(caplog.records) == 2


@pytest.mark.parametrize("endpoint", ["collector:4317", "grpc://collector", "http://", "http://user:planted@collector"])
def test_an_endpoint_that_is_none_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint)
    with pytest.raises(SettingError, match="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is") as caught:
        DurableConfig.of("traces")
    assert caught.value.from_environment
    assert "planted" not in str(caught.value)
    with pytest.raises(SettingError, match="endpoint is") as caught:
        DurableConfig.of("traces", endpoint=endpoint)
    assert not caught.value.from_environment


def test_guards_encryption_key_counts_unless_there_is_an_own_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DurableConfig.of("traces").encryption_key is None
    monkeypatch.setenv("OTEL_EXPORTER_GUARD_ENCRYPTION_KEY", "A" * 43)
    assert DurableConfig.of("traces").encryption_key == "A" * 43
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_DURABLE_ENCRYPTION_KEY", "B" * 43)
    assert DurableConfig.of("traces").encryption_key == "B" * 43
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_DURABLE_ENCRYPTION_KEY", "short")
    with pytest.raises(SettingError, match="DURABLE_ENCRYPTION_KEY has a value"):
        DurableConfig.of("traces")


def test_guards_late_settings_are_not_these() -> None:
    late.offer({"queue_url": "memory://"})
    assert DurableConfig.of("traces").queue_url is None


def test_a_setting_that_there_is_not_is_named() -> None:
    with pytest.raises(TypeError, match="nonsense"):
        DurableConfig.of("traces", nonsense=1)


def test_no_secret_is_shown() -> None:
    config = DurableConfig.of("traces", headers={"authorization": "planted"}, encryption_key="A" * 43)
    assert "planted" not in repr(config)
    assert "A" * 43 not in repr(config)


STANDARD = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("http://collector:4318", "http://collector:4318/"),
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ("http://other:4318/v1/traces", "http://other:4318/ingest"),
    "OTEL_EXPORTER_OTLP_HEADERS": ("a=b,C = d%20e", "a=b c , x", "k=v=w,,"),
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": ("only=mine",),
    "OTEL_EXPORTER_OTLP_TIMEOUT": ("7", "2.5"),
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": ("gzip", "Deflate"),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in STANDARD.items() for value in values])
def test_standard_variables_mean_what_they_mean_to_the_sdks_exporter(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    theirs = OTLPSpanExporter()
    ours = DurableConfig.of("traces")
    assert theirs._endpoint == ours.endpoint + ("" if ours.whole else "/v1/traces")
    assert theirs._client._timeout == ours.timeout
    assert theirs._compression.value == ours.compression
    headers = {name: text for name, text in theirs._client._headers.items() if name.lower() not in STANDING}
    assert headers == otlp.headers("traces")


STANDING = {"user-agent", "content-type", "content-encoding"}
