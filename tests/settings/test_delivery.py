"""Settings: keywords before the environment before defaults; a wrong one is named, and a secret never shown."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opentelemetry_guard.settings import environment_variables, once
from opentelemetry_guard.settings.delivery import DEFAULT_ENDPOINT, PREFIX, GuardConfig
from opentelemetry_guard.settings.setting import SettingError
from opentelemetry_guard.settings.values import base_url

UUID_TEXT = "5f0c1b2e-7f6b-4a52-8a55-3f4a8d3c9e10"
ENCRYPTION_KEY = "A" * 43
FILE = str(Path(__file__))

VALID: dict[str, tuple[str, object]] = {
    "endpoint": ("https://guard.example.com", "https://guard.example.com"),
    "api_key": ("k-1", "k-1"),
    "project_id": ("p-1", "p-1"),
    "headers": ("x-one=1,X-Two=a%20b=c", {"x-one": "1", "x-two": "a b=c"}),
    "timeout": ("2.5", 2.5),
    "compression": ("NONE", "none"),
    "queue_url": ("memory://", "memory://"),
    "queue_max_bytes": ("65536", 65536),
    "certificate": (FILE, FILE),
    "client_key": (FILE, FILE),
    "client_certificate": (FILE, FILE),
    "event_log": ("/var/log/guard/events.ndjson", "/var/log/guard/events.ndjson"),
    "event_log_format": ("OCSF", "ocsf"),
    "event_log_max_bytes": ("0", 0),
    "event_log_backups": ("2", 2),
    "install_id": (UUID_TEXT.upper(), UUID_TEXT),
    "signing_secret": ("s-1", "s-1"),
    "encryption_key": (ENCRYPTION_KEY, ENCRYPTION_KEY),
    "queue_overflow": ("Drop_Newest", "drop_newest"),
    "breaker_failures": ("3", 3),
    "breaker_failure_rate": ("0.25", 0.25),
    "breaker_recovery": ("0.5", 0.5),
    "breaker_max_recovery": ("20", 20.0),
    "fleet_size": ("5000", 5000),
    "rules_stream": ("false", False),
    "signed_rules_only": ("true", True),
    "shutdown_timeout": ("0", 0.0),
    "status_interval": ("60", 60.0),
    "enable_events": ("False", False),
    "enable_metrics": ("false", False),
    "retry_attempts": ("3", 3),
    "backoff_factor": ("1.5", 1.5),
    "compression_threshold": ("0", 0),
    "batch_size": ("100", 100),
    "max_body_bytes": ("200000", 200_000),
    "requests_in_flight": ("4", 4),
    "guard_version": ("8.1.2", "8.1.2"),
    "guard_core_version": ("4.4.0", "4.4.0"),
}
"""Settings as text, and what each is then."""

NEEDED: dict[str, dict[str, object]] = {"client_key": {"client_certificate": FILE}}
"""Settings that have no use without others."""

WRONG: list[tuple[str, str]] = [
    ("endpoint", "guard.example.com"),
    ("endpoint", "ftp://guard.example.com"),
    ("endpoint", "https://"),
    ("endpoint", "https://guard.example.com:99999"),
    ("endpoint", "https://user:pass@guard.example.com"),
    ("endpoint", "https://guard.example.com?key=1"),
    ("endpoint", "https://guard example.com"),
    ("api_key", "kéy"),
    ("api_key", "two\nlines"),
    ("project_id", "p" * 257),
    ("event_log", "events.ndjson"),
    ("event_log", "/"),
    ("event_log_format", "leef"),
    ("event_log_max_bytes", "-1"),
    ("event_log_backups", "0"),
    ("headers", "no pairs"),
    ("headers", "Bearer abc=def"),
    ("headers", ","),
    ("timeout", "soon"),
    ("timeout", "0"),
    ("timeout", "-1"),
    ("timeout", "nan"),
    ("timeout", "inf"),
    ("compression", "deflate"),
    ("queue_url", "/var/lib/queue.db"),
    ("queue_max_bytes", "64MiB"),
    ("queue_max_bytes", "1.5"),
    ("queue_max_bytes", "1024"),
    ("certificate", "/does/not/exist.pem"),
    ("client_key", "/"),
    ("client_certificate", "~/no/such/file.pem"),
    ("encryption_key", "short"),
    ("queue_overflow", "block"),
    ("breaker_failures", "0"),
    ("breaker_failures", "1.5"),
    ("breaker_failure_rate", "50"),
    ("breaker_recovery", "0"),
    ("breaker_max_recovery", "never"),
    ("fleet_size", "0"),
    ("install_id", "me"),
    ("shutdown_timeout", "-0.5"),
    ("status_interval", "0.5"),
    ("status_interval", "often"),
    ("enable_events", "perhaps"),
    ("enable_metrics", "0"),
    ("retry_attempts", "0"),
    ("backoff_factor", "-1"),
    ("compression_threshold", "1KiB"),
    ("batch_size", "0"),
    ("max_body_bytes", "4095"),
    ("requests_in_flight", "0"),
]


def test_every_setting_has_a_default() -> None:
    config = GuardConfig.resolve({})
    assert (config.endpoint, config.timeout, config.compression) == (DEFAULT_ENDPOINT, 10.0, "gzip")
    assert config == GuardConfig()


def test_every_setting_has_a_variable_that_is_registered() -> None:
    names = {name for name in dir(environment_variables) if name.startswith(PREFIX)}
    assert names == {PREFIX + name.upper() for name in VALID}
    assert all(getattr(environment_variables, name) == name for name in names)


@pytest.mark.parametrize("name", VALID)
def test_a_setting_is_read_from_the_environment_and_from_a_keyword(name: str) -> None:
    text, expected = VALID[name]
    needed = NEEDED.get(name, {})
    assert getattr(GuardConfig.resolve({PREFIX + name.upper(): f" {text} "}, **needed), name) == expected
    assert getattr(GuardConfig.resolve({}, **{name: text}, **needed), name) == expected


def test_a_clients_key_without_its_certificate_is_a_mistake_of_whoever_gave_it() -> None:
    with pytest.raises(
        SettingError, match=r"CLIENT_KEY is set without .*: set OTEL_EXPORTER_GUARD_CLIENT_CERT"
    ) as told:
        GuardConfig.resolve({PREFIX + "CLIENT_KEY": FILE})
    assert told.value.from_environment
    with pytest.raises(SettingError, match=r"^client_key is set without a client certificate") as told:
        GuardConfig.resolve({}, client_key=FILE)
    assert not told.value.from_environment
    assert GuardConfig.resolve({PREFIX + "CLIENT_CERTIFICATE": FILE}).client_certificate == FILE


@pytest.mark.parametrize("name", [name for name in VALID if name in dict(WRONG)])
def test_a_keyword_wins_over_the_environment_even_where_that_is_wrong(name: str) -> None:
    text, expected = VALID[name]
    wrong = dict(WRONG)[name]
    keywords = {name: text, **NEEDED.get(name, {})}
    assert getattr(GuardConfig.resolve({PREFIX + name.upper(): wrong}, **keywords), name) == expected


@pytest.mark.parametrize(
    ("name", "empty"),
    [(name, "") for name in VALID]
    + [(name, "  ") for name in VALID if name not in ("signing_secret", "encryption_key")],
)
def test_empty_means_unset(name: str, empty: str) -> None:
    default = getattr(GuardConfig(), name)
    assert getattr(GuardConfig.resolve({PREFIX + name.upper(): empty}), name) == default
    assert getattr(GuardConfig.resolve({}, **{name: empty}), name) == default
    text, expected = VALID[name]
    keywords = {name: empty, **NEEDED.get(name, {})}
    assert getattr(GuardConfig.resolve({PREFIX + name.upper(): text}, **keywords), name) == expected


@pytest.mark.parametrize("name", ["signing_secret", "encryption_key"])
def test_a_blank_secret_is_a_mistake_and_never_means_unprotected(name: str) -> None:
    with pytest.raises(SettingError, match=f"{PREFIX}{name.upper()} has a value that can't be used"):
        GuardConfig.resolve({PREFIX + name.upper(): "  "})
    with pytest.raises(SettingError, match=f"^{name} has a value"):
        GuardConfig.resolve({}, **{name: "  "})


def test_a_wrong_url_is_shown_without_its_password() -> None:
    with pytest.raises(SettingError, match=r"ENDPOINT is 'ftp://\*\*\*@host', which can't be used"):
        GuardConfig.resolve({PREFIX + "ENDPOINT": "ftp://user:hunter2@host"})


@pytest.mark.parametrize("name", ["api_key", "project_id", "signing_secret"])
@pytest.mark.parametrize("value", [b"bytes", ["list"], 1.5, True])
def test_what_is_not_text_is_refused_and_not_spelled_out(name: str, value: object) -> None:
    with pytest.raises(ValueError, match="it must be text, not"):
        GuardConfig.resolve({}, **{name: value})


def test_a_header_that_is_the_exporters_own_is_refused() -> None:
    with pytest.raises(SettingError, match="content-encoding is the exporter's own"):
        GuardConfig.resolve({PREFIX + "HEADERS": "content-encoding=br"})


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, text: str) -> None:
    with pytest.raises(SettingError, match=rf"^{PREFIX}{name.upper()} .*it must be|allowed are|name") as from_variable:
        GuardConfig.resolve({PREFIX + name.upper(): text})
    assert from_variable.value.from_environment
    with pytest.raises(ValueError, match=rf"^{name} ") as from_keyword:
        GuardConfig.resolve({}, **{name: text})
    assert isinstance(from_keyword.value, SettingError)
    assert not from_keyword.value.from_environment


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 10**400),
        ("timeout", True),
        ("timeout", []),
        ("shutdown_timeout", False),
        ("queue_max_bytes", 1e9),
        ("queue_max_bytes", True),
        ("headers", 5),
        ("headers", {"x-one": None}),
        ("headers", {5: "x"}),
        ("headers", {"x one": "1"}),
        ("headers", {"x-one": "a\r\nx-two: b"}),
        ("headers", [{"value": "1"}]),
    ],
)
def test_a_keyword_of_the_wrong_type_is_a_value_error(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name} "):
        GuardConfig.resolve({}, **{name: value})


def test_an_unknown_keyword_is_a_type_error_that_lists_the_settings() -> None:
    with pytest.raises(TypeError, match=r"'api_kye', allowed are endpoint, api_key"):
        GuardConfig.resolve({}, api_kye="x")


def test_headers_may_be_a_mapping_or_the_list_of_a_declarative_configuration() -> None:
    assert GuardConfig.resolve({}, headers={"X-One": 1}).headers == {"X-One": "1"}
    assert GuardConfig.resolve({}, headers=[{"name": "X-One", "value": "1"}]).headers == {"X-One": "1"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://Guard.Example.com:8443", "https://guard.example.com:8443"),
        ("HTTPS://guard.example.com", "https://guard.example.com"),
        ("https://guard.example.com/", "https://guard.example.com"),
        ("https://guard.example.com/api/v1", "https://guard.example.com"),
        ("https://guard.example.com/api/v1/", "https://guard.example.com"),
        ("https://guard.example.com/tenant/api/v1//", "https://guard.example.com/tenant"),
        ("https://guard.example.com/tenant", "https://guard.example.com/tenant"),
        ("http://[::1]:8317", "http://[::1]:8317"),
    ],
)
def test_an_endpoint_becomes_the_bare_base_url(given: str, expected: str) -> None:
    assert base_url(given) == expected
    assert base_url(expected) == expected


def test_shortening_an_endpoint_is_said_once_and_an_endpoint_that_is_right_is_not_spoken_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    GuardConfig.resolve({}, endpoint="https://guard.example.com")
    assert caplog.messages == []
    for _ in range(3):
        GuardConfig.resolve({}, endpoint="https://guard.example.com/api/v1/")
    assert len(caplog.messages) == 1
    assert "'/api/v1/'" in caplog.text


def test_a_destination_is_an_endpoint_and_a_project() -> None:
    def destination(**settings: object) -> str:
        return GuardConfig.resolve({}, **settings).destination

    assert destination(project_id="p", api_key="old") == destination(project_id="p", api_key="new")
    assert destination(project_id="p") != destination(project_id="q")
    assert destination(project_id="p") != destination(project_id="p", endpoint="http://localhost")
    assert destination(api_key="one") != destination(api_key="two")
    assert destination(project_id="p", endpoint="http://h/") == destination(project_id="p", endpoint="http://H/api/v1")


def test_differences_name_settings() -> None:
    one = GuardConfig.resolve({}, api_key="one", timeout=1)
    assert one.differences(GuardConfig.resolve({}, api_key="two", timeout=1)) == ["api_key"]


secrets = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=12, max_size=30).map("s3cr3t{}".format)


@given(secrets, st.sampled_from(["", "é", "\n", " ", ",", "=", "@"]), st.sampled_from(["", "é", "\0", " x="]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_secret_is_in_no_message_repr_or_log(
    caplog: pytest.LogCaptureFixture, secret: str, before: str, after: str
) -> None:
    once._said.clear()
    caplog.set_level(logging.DEBUG)
    value = before + secret + after
    shown: list[str] = []
    for given_settings in (
        {"api_key": value},
        {"headers": f"authorization={value}"},
        {"headers": f"Bearer {value}"},
        {"headers": value},
        {"headers": {"authorization": value}},
        {"headers": {value: "1"}},
        {"headers": [{"name": value}]},
        {"queue_url": f"redis://user:{value}@host"},
        {"endpoint": f"https://user:{value}@host/"},
        {"signing_secret": value},
        {"encryption_key": value},
        {"api_key": value, "timeout": "x"},
    ):
        variables = {PREFIX + name.upper(): text for name, text in given_settings.items() if isinstance(text, str)}
        for environ, keywords in ((variables, {}), ({}, given_settings)):
            try:
                shown.append(repr(GuardConfig.resolve(environ, **keywords)))
            except SettingError as error:
                shown += [repr(error), str(error), repr(error.__cause__)]
    assert secret not in "".join(shown) + caplog.text


def test_an_install_id_is_a_uuid_in_its_usual_form() -> None:
    given_id = GuardConfig.resolve({}, install_id="{" + UUID_TEXT.upper() + "}").install_id
    assert given_id is not None
    assert str(UUID(given_id)) == given_id


def test_a_slash_at_the_end_of_the_endpoint_is_worth_no_word(caplog: pytest.LogCaptureFixture) -> None:
    assert base_url("https://guard.example.com/") == "https://guard.example.com"
    assert base_url("https://guard.example.com/base/") == "https://guard.example.com/base"
    assert caplog.records == []
    assert base_url("https://guard.example.com/api/v1/") == "https://guard.example.com"
    assert len(caplog.records) == 1
