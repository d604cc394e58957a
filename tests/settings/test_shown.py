"""What errors and terminals show: no key, no part of one, and nothing that commands a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.cli.output import print_json
from opentelemetry_guard.delivery.trust import CertificateError, tls_context
from opentelemetry_guard.settings.agent import AgentConfig
from opentelemetry_guard.settings.delivery import GuardConfig
from opentelemetry_guard.settings.privacy import PrivacySettings
from opentelemetry_guard.settings.shown import without

KEY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"
PEM = f"-----BEGIN PRIVATE KEY-----\n{KEY}\n{KEY}\n-----END PRIVATE KEY-----"
PASTED = [PEM, PEM.replace("\n", "\\n"), PEM.replace("\n", " "), f"{KEY}\n{KEY}", KEY * 20, f"{{{PEM}"]


def complaint(read: Callable[[], object]) -> str:
    """Return what is said of wrong settings; nothing where they are fine."""
    try:
        read()
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("pasted", PASTED)
@pytest.mark.parametrize("name", list(GuardConfig.settings()))
def test_a_key_that_is_pasted_where_another_setting_belongs_is_not_quoted(name: str, pasted: str) -> None:
    for environ, arguments in (({}, {name: pasted}), ({f"OTEL_EXPORTER_GUARD_{name.upper()}": pasted}, {})):
        assert KEY[:12] not in complaint(lambda: GuardConfig.resolve(environ, **arguments))  # noqa: B023  called here


@pytest.mark.parametrize("pasted", PASTED)
@pytest.mark.parametrize("name", list(PrivacySettings.settings()))
def test_nor_is_it_where_a_setting_of_privacy_belongs(name: str, pasted: str, caplog: pytest.LogCaptureFixture) -> None:
    PrivacySettings.resolve({f"OTEL_PYTHON_GUARD_{name.upper()}": pasted})
    assert KEY[:12] not in caplog.text


@pytest.mark.parametrize("pasted", PASTED)
@pytest.mark.parametrize("name", list(AgentConfig.model_fields))
def test_nor_is_it_where_a_setting_of_the_agent_belongs(name: str, pasted: str) -> None:
    assert KEY[:12] not in complaint(lambda: AgentConfig(**{"api_key": "k" * 20, name: pasted}))


@pytest.mark.parametrize("pasted", PASTED)
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_nor_is_it_where_the_environment_names_certificates(variable: str, pasted: str) -> None:
    with pytest.raises(CertificateError, match=variable) as caught:
        tls_context(GuardConfig(), {variable: pasted})
    assert KEY[:12] not in str(caught.value)


texts = st.text(st.sampled_from('ab-"&/ é<'), max_size=12)


@given(st.text(st.sampled_from('xyz/"&<-'), min_size=8, max_size=20), texts, st.integers(0, 60))
def test_neither_a_secret_nor_the_beginning_that_a_cut_left_is_shown(secret: str, before: str, cut: int) -> None:
    shown = without([secret], f"{before}{secret}"[:cut])
    assert secret not in shown
    assert not any(shown.endswith(secret[:length]) for length in range(4, len(secret)))


@given(st.text())
def test_json_on_a_terminal_is_json_without_what_commands_it(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("typer.echo", lines.append)
        print_json({"answer": [text, "\u202e\x9b\x1b[2J\x7f\u2066\U000e0041"]})
    (written,) = lines
    assert all(line.isprintable() for line in written.split("\n"))
    assert json.loads(written)["answer"][0] == text
