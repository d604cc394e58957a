"""Names of secrets: known however they are spelled and wherever they stand, and no other name is taken for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.events.codec import to_row
from opentelemetry_guard.privacy import Privacy, PrivacySettings
from opentelemetry_guard.privacy.sensitive_names import Names
from opentelemetry_guard.settings.mask import MASK

SECRET = "hunter2-Zx81qT"

SECRETS = [
    *("db_pass", "smtp_pass", "mysql_pwd", "pw", "user_pw", "password_confirm", "password_confirmation"),
    *("password_repeat", "password_again", "password_new", "new_password", "password_hash", "old_password"),
    *("tokens", "api_keys", "access_tokens", "client_secrets", "private_keys", "signing_keys", "recovery_codes"),
    *("x_authorization", "x_forwarded_authorization", "authentication", "x_auth", "x_authentication", "basic_auth"),
    *("code", "code_verifier", "auth_code", "authorization_code", "one_time_code", "otp_code", "mfa_code", "sms_code"),
    *("verification_code", "recovery_code", "backup_codes", "device_code", "saml_response", "saml_request"),
    *("assertion", "client_assertion", "ticket", "csrf", "x_csrf_token", "xsrf_token", "id_token_hint"),
    *("consumer_key", "consumer_secret", "session_key", "client_key", "secret_key_base", "shared_access_signature"),
    *("shared_access_key", "account_key", "stripe_signature", "x_hub_signature_256", "x_slack_signature"),
    *("oauth_signature", "oauth_token_secret", "oauth_verifier", "api_key_prod", "access_token_secret", "creds"),
    *("aws_credentials", "session_cookie", "one_time_password", "two_factor_code", "user_pin", "totp", "bearer"),
]

INNOCENTS = {
    **dict.fromkeys(("country_code", "countryCode", "currency_code", "language_code", "postal_code"), "DE80331x"),
    **dict.fromkeys(("status_code", "error_code", "exit_code", "zip_code", "area_code", "promo_code"), "E1234567z"),
    **dict.fromkeys(
        ("sort_code", "barcode", "opcode", "postcode", "geocode", "codec", "encoding", "unicode"), "A12b34c5"
    ),
    **dict.fromkeys(("passenger", "passengers", "compass", "bypass", "passport_country", "pass_rate"), "N0rth-West1"),
    **dict.fromkeys(("token_count", "token_type", "token_limit", "tokens_used", "tokenizer", "max_tokens"), "128000"),
    **dict.fromkeys(
        ("sort_key", "primary_key", "foreign_key", "cache_key", "partition_key", "public_key"), "user1-Id2"
    ),
    **dict.fromkeys(
        ("routing_key", "object_key", "message_key", "keyboard", "monkey", "hotkey", "keyword"), "qWerty12"
    ),
    **dict.fromkeys(("ticket_price", "ticket_id", "tickets_sold", "author", "authority", "authorized_by"), "Bob99-x"),
    **dict.fromkeys(("password_length", "password_policy", "password_changed_at", "passwordExpiresAt"), "2026x-Q1"),
    **dict.fromkeys(("password_attempts", "DB_PASSWORD_FILE", "secret_name", "session_count", "auth_method"), "m1-X9z"),
    **dict.fromkeys(("code_challenge_method", "assertion_count", "signature_version", "csrf_enabled"), "S256x-9"),
    **dict.fromkeys(("spinning", "pinned", "secretary", "function_signature", "cookie_policy", "client_id"), "ab12-Cd"),
}

HARMLESS = [
    *(("token", "4096"), ("tokens", "128000"), ("max_tokens", "4096"), ("input_tokens", "1234"), ("api_keys", "3")),
    *(("auth", "basic"), ("auth", "OAuth2"), ("auth", "none"), ("authentication", "required"), ("auth", "digest")),
    *(
        ("pass", "1"),
        ("pass", "true"),
        ("pass", "passed"),
        ("test_pass", "100"),
        ("ticket", "OPS-1234"),
        ("ticket", "77"),
    ),
    *(
        ("code", "404"),
        ("code", "ECONNREFUSED"),
        ("code", "NoSuchKey"),
        ("code", "value_error.missing"),
        ("code", "DE"),
    ),
    *(("code", "ORA-00942"), ("code", "0x80070005"), ("csrf", "disabled"), ("password", "none"), ("token", "null")),
]

FORMS: dict[str, Callable[[str, str], object]] = {
    "mapping": lambda name, value: {name: value},
    "nested": lambda name, value: {"user": [{"data": {name: value}}]},
    "pair": lambda name, value: [[name, value], ["accept", "kept"]],
    "pair of bytes": lambda name, value: [(name.encode(), value.encode()), (b"accept", b"kept")],
    "label": lambda name, value: {"name": name, "value": value},
    "bracketed": lambda name, value: {f"user[{name}]": value},
    "dotted": lambda name, value: {f"login.{name}": value},
    "query": lambda name, value: f"/login?page=2&{name}={value}&x=1",
    "query alone": lambda name, value: f"{name}={value}",
    "form": lambda name, value: f"user=bob&{name}={value}",
    "form, bracketed": lambda name, value: f"user[{name}]={value}&page=2",
    "JSON": lambda name, value: json.dumps({name: value, "user": "bob"}),
    "JSON in JSON": lambda name, value: json.dumps({"body": json.dumps({name: value})}),
    "JSON, cut": lambda name, value: json.dumps({"a": [1], name: value, "user": "bob"})[:-4],
    "a Python repr": lambda name, value: repr({"user": "bob", name: value}),
    "XML": lambda name, value: f"<login><{name}>{value}</{name}></login>",
    "multipart": lambda name, value: f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n--b--',
    "header": lambda name, value: f"Host: example.com\r\n{name}: {value}\r\nAccept: a",
    "prose": lambda name, value: f"login refused, {name}: {value}",
    "encoded": lambda name, value: "/go?next=" + quote(f"/a?{name}={value}&x=1", safe=""),
    "encoded twice": lambda name, value: "/go?next=" + quote(quote(f"/a?{name}={value}&x=1", safe=""), safe=""),
    "keyword": lambda name, value: f"Login(user='bob', {name}='{value}')",
}

SPELLINGS: dict[str, Callable[[str], str]] = {
    "snake": str,
    "kebab": lambda name: name.replace("_", "-"),
    "upper": str.upper,
    "header": lambda name: name.replace("_", "-").title(),
    "camel": lambda name: name[0] + name.title().replace("_", "")[1:],
    "Pascal": lambda name: name.title().replace("_", ""),
}


def sent(form: object) -> str:
    """Return what leaves of a value, in metadata and where it is text in an event's fields too."""
    fields = {"reason": form, "endpoint": form} if isinstance(form, str) else {}
    cleaned = Privacy(PrivacySettings(max_payload_size=4096)).event(
        to_row({"event_type": "x", "metadata": {"it": form}, **fields})[0]
    )
    assert cleaned is not None
    return str([cleaned.get("metadata"), *(cleaned[field] for field in fields)])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_masked_by_its_name_in_every_form(name: str, form: str) -> None:
    shown = sent(FORMS[form](name, SECRET))
    assert SECRET not in shown
    assert SECRET[4:] not in shown
    assert MASK in shown


@given(
    st.sampled_from(SECRETS),
    st.sampled_from(sorted(SPELLINGS)),
    st.sampled_from(sorted(FORMS)),
    st.sampled_from(["", "my_", "x-"]),
)
def test_a_name_is_known_however_it_is_spelled(name: str, spelling: str, form: str, before: str) -> None:
    whole = name in (
        "code",
        "ticket",
        "tokens",
        "totp",
        "bearer",
        "saml_response",
        "saml_request",
        "secret_key_base",
        "id_token_hint",
    )
    written = SPELLINGS[spelling](name if whole else before.replace("-", "_") + name)
    assert SECRET not in sent(FORMS[form](written, SECRET))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", INNOCENTS)
def test_what_only_reads_like_a_secrets_name_keeps_its_value(name: str, form: str) -> None:
    shown = sent(FORMS[form](name, INNOCENTS[name]))
    assert MASK not in shown
    assert INNOCENTS[name] in shown


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "value"), HARMLESS)
def test_a_value_that_can_be_no_secret_stays_under_a_name_that_has_other_uses(name: str, value: str, form: str) -> None:
    assert MASK not in sent(FORMS[form](name, value))


def test_numbers_stay_and_short_codes_too_where_they_are_numbers() -> None:
    given = {"token": 4096, "max_tokens": 128000, "pass": 1, "code": 404, "input_tokens": 12, "tokens": 100_000_000}
    cleaned = Privacy().event(to_row({"event_type": "x", "metadata": given})[0])
    assert cleaned is not None
    assert cleaned["metadata"] == given


@pytest.mark.parametrize("path", ["/tokens/usd-coin-1a2b3c", "/v1/tokens/wrapped-bitcoin", "/auth/oauth2/authorize"])
def test_a_path_through_things_that_are_called_tokens_stays(path: str) -> None:
    assert Privacy().path(path) == path


@given(st.text(max_size=300))
def test_any_name_is_judged(name: str) -> None:
    assert (name in Names()) in (True, False)


def test_a_header_that_is_configured_has_no_harmless_value() -> None:
    names = Names(["code"])
    assert "Code" in names
    assert not names.spares("code", "404")
