"""Privacy: no secret leaves, what is no secret stays, no string is too long, and cleaning twice is cleaning once."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel, Field, ValidationError
from support.pipeline import pipeline
from support.rows import decoded, row_of, without_enrichment
from support.strategies import any_events, python_values

from opentelemetry_guard import SecurityEvent, privacy
from opentelemetry_guard.events import codec, incident
from opentelemetry_guard.events.codec import Row, to_row
from opentelemetry_guard.events.tally import FILTERED, PRIVACY_ERROR, PROCESSOR_ERROR, TALLY
from opentelemetry_guard.exporters.event_rows import rows_of_records, rows_of_spans
from opentelemetry_guard.privacy import Privacy, PrivacySettings, texts
from opentelemetry_guard.privacy.cards import is_card_number
from opentelemetry_guard.privacy.texts import shorten
from opentelemetry_guard.settings import late
from opentelemetry_guard.settings.mask import MASK

SECRET = "hunter2-Zx81qT"
CARD = "4111111111111111"
ADDRESS = "203.0.113.7"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
TOKENS = {
    "JWT": JWT,
    "Stripe": "sk_" + "live_4eC39HqLyjWDarjtT1zdp7dc",
    "OpenAI": "sk-" + "proj-abcdEFGH1234ijklMNOP5678",
    "GitHub": "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a",
    "GitHub, fine-grained": "github_pat_" + "11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz",
    "GitLab": "glpat-" + "aB3dE5gH7jK9mN1pQ2rS",
    "Slack": "xoxb-" + "123456789012-abcdefghijklmnop",
    "AWS": "AKIA" + "IOSFODNN7EXAMPLE",
    "Google": "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "Google OAuth": "ya29." + "a0AfH6SMBx1234567890abcdef",
    "SendGrid": "SG." + "ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf09kqeF8tAmbihYzrnopKc1s5cr",
    "npm": "npm_" + "abcdefghijklmnopqrstuvwxyz0123456789",
    "PEM": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----",
    "card": CARD,
    "card with blanks": "5555 5555 5555 4444",
    "card with dashes": "3782-822463-10005",
}


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    privacy.reset()
    yield
    privacy.reset()


def clean(row: Mapping[str, object], **settings: object) -> Row:
    made = Privacy(PrivacySettings.resolve({}, **settings)).event(to_row({"event_type": "x", **row})[0])
    assert made is not None
    return made


def text(value: str, **settings: object) -> str:
    return Privacy(PrivacySettings.resolve({}, **settings)).text(value)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": SECRET, "accept": "kept"},
        {"COOKIE": SECRET, "accept": "kept"},
        {"proxy_authorization": SECRET, "accept": "kept"},
        {b"X-API-Key": SECRET.encode(), b"accept": b"kept"},
        [("Set-Cookie", SECRET), ("accept", "kept")],
        [(b"authorization", SECRET.encode()), (b"accept", b"kept")],
        [["Cookie", SECRET], ["accept", "kept"]],
        [{"name": "Authorization", "value": SECRET}, {"name": "accept", "value": "kept"}],
        {"nested": [{"deep": {"Cookie": SECRET}}, "kept"]},
        json.dumps({"Authorization": SECRET, "accept": "kept"}),
        json.dumps([["Authorization", SECRET], ["accept", "kept"]]),
        json.dumps({"headers": json.dumps({"Cookie": SECRET}), "accept": "kept"}),
        json.dumps({"cookie": SECRET, "accept": "kept"}).encode(),
        str({"Authorization": SECRET, "accept": "kept"}),
        str([(b"authorization", SECRET.encode()), (b"accept", b"kept")]),
        '{"password": "' + SECRET + '", "password": "", "accept": "kept"}',
        '{"accept": "kept", "password": "' + SECRET,
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
@pytest.mark.parametrize("where", ["metadata", "unknown"])
def test_the_value_of_a_sensitive_header_is_masked_in_every_form_and_place(headers: object, where: str) -> None:
    place: dict[str, object] = {"metadata": {"headers": headers}} if where == "metadata" else {"headers": headers}
    sent = orjson.dumps(clean(place)).decode()
    assert SECRET not in sent
    assert MASK in sent or '\\"password\\":\\"\\"' in sent
    assert "kept" in sent


@pytest.mark.parametrize(
    "name",
    [
        *("password", "Passwd", "access-token", "refreshToken", "API_KEY", "client_secret", "ssn", "cvv", "sessionid"),
        *("db_password", "new_password2", "X-Vault-Token", "stripeApiKey", "cookies", "password.0", "password[0][new]"),
        *("HTTP_AUTHORIZATION", "HTTP_X_API_KEY", "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44", "pass\u200bword"),
        "x" * 900 + "[password]",
    ],
)
def test_fields_of_a_body_are_masked_by_name_however_it_is_spelled(name: str) -> None:
    assert clean({"metadata": {name: SECRET, "other": 1}})["metadata"] == {name: MASK, "other": 1}
    assert clean({"metadata": {name: 123}})["metadata"] == {name: MASK}


def test_that_there_is_no_secret_is_no_secret() -> None:
    metadata = {"password": None, "token": "", "session": False}
    assert clean({"metadata": metadata})["metadata"] == metadata


@pytest.mark.parametrize(
    "written",
    [
        f"Authorization: Bearer {SECRET}",
        f"Authorization: Digest username=a, response={SECRET}",
        f"Cookie: a=b; session={SECRET}; c=d",
        f"Set-Cookie: sid={SECRET}; HttpOnly",
        f"X-Api-Key: {SECRET}",
        f"password={SECRET}",
        f"login with password: {SECRET}",
        f"user=bob&password={SECRET}&remember=1",
        f"user[password]={SECRET}",
        f'password="{SECRET} and more"',
        f"Login(user='bob', password='{SECRET}')",
        f"GET /reset?token={SECRET}&page=2",
        f"https://example.com/?api_key={SECRET}#top",
        f"https://bob:{SECRET}@example.com/",
        f"redis://:{SECRET}@cache:6379/0",
        f"/login?pass%77ord={SECRET}",
        "/go?next=" + quote(f"https://example.com/?token={SECRET}&x=1", safe=""),
        "/go?next=" + quote(quote(f"https://example.com/?token={SECRET}&x=1", safe=""), safe=""),
        f"<login><password>{SECRET}</password></login>",
        f'Content-Disposition: form-data; name="password"\r\n\r\n{SECRET}\r\n--end--',
        f"Bearer {SECRET}",
        "Basic Ym9iOmh1bnRlcjItWng4MXFU",
        f'Digest username="bob", response="{SECRET}"',
        f"password[0][new]={SECRET}",
        f"HTTP_COOKIE={SECRET}",
        f"password => '{SECRET}'",
        f"/login?password=a%26{SECRET}&user=bob",
        f"/go?next=%2Flogin%3Fpassword%3Da%2526{SECRET}%26user%3Dbob",
        f"/login?password='a'{SECRET}",
        f"/login?password=a'{SECRET}",
        f"password='a''{SECRET}'",
        f"user=bob&password=x' OR 1=1 -- {SECRET}&remember=1",
        f"<s:password type='text'><![CDATA[{SECRET}]]></s:password>",
        f"%3Cpassword%3E{SECRET}%3C/password%3E",
        f"postgres://bob:p@{SECRET}@db/shop",
        f"\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44\uff1d{SECRET}",
        f"/reset-password/{SECRET}/confirm",
        f"/v1/token-{SECRET}",
    ],
)
@pytest.mark.parametrize("field", ["reason", "user_agent", "endpoint", "pattern_matched"])
def test_a_secret_in_plain_text_is_masked_by_the_name_before_it(written: str, field: str) -> None:
    sent = str(clean({field: written})[field])
    assert SECRET not in sent
    assert "Ym9iOmh1" not in sent
    assert MASK in sent


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("around", ["{}", "call with {} failed", "/v1/keys/{}/use", "x={}&y=1", "%20{}%20", '"{}",'])
def test_tokens_of_known_forms_and_card_numbers_are_masked_in_every_string(name: str, around: str) -> None:
    token = TOKENS[name]
    written = around.format(token)
    for sent in (text(written), str(clean({"endpoint": written})["endpoint"])):
        assert token not in sent
        assert token[len(token) // 2 :] not in sent
        assert MASK in sent


DATABASE = f"postgres://bob:{SECRET}@db.example.com/shop"


@pytest.mark.parametrize(
    "written",
    [
        *(
            f"postgres://bob:{before}{SECRET}@db.example.com/shop"
            for before in ("a/", "a b", "it's ", 'a"', "p@", "p@x/", "#?")
        ),
        *(
            f"postgres://bob:{SECRET}{after}@db.example.com/shop"
            for after in ("/a", " b", "'", '"', "@", "12345" * 100)
        ),
        *(
            f"{scheme}://bob:{port}{sign}{SECRET}@db.example.com/shop"
            for scheme, port, sign in (
                *(("postgres", "123", sign) for sign in "/?#]"),
                ("postgresql+asyncpg", "5432", "/"),
                ("xpostgres", "123", "x/"),
            )
        ),
        quote(f"postgres://bob:123/{SECRET}@db.example.com/shop", safe=""),
        quote(DATABASE),
        quote(DATABASE, safe=""),
        quote(quote(DATABASE, safe=""), safe=""),
        f"/go?next={quote(DATABASE + '?a=b', safe='')}&mail=a%40example.com",
        f"connect to {DATABASE}, then {DATABASE}",
        "postgres://bob:" + "x" * 400 + SECRET * 20,
    ],
)
@pytest.mark.parametrize("field", ["reason", "endpoint"])
def test_the_password_of_a_url_is_masked_whatever_is_in_it_and_however_it_is_encoded(written: str, field: str) -> None:
    sent = str(clean({field: written})[field])
    assert SECRET[:7] not in sent
    assert "bob" in sent
    assert "postgres" in sent
    assert ("db.example.com" in sent) == ("db.example.com" in written)


WRITTEN = [
    f"mysql --user kept --password {SECRET} shop",
    f"kept --api-key '{SECRET} b' -v",
    f'kept --db-password "{SECRET}"',
    f"curl -u kept:{SECRET} http://example.com/",
    f"CREATE USER kept IDENTIFIED BY '{SECRET}'",
    f"ALTER USER kept IDENTIFIED WITH mysql_native_password BY '{SECRET}'",
    f"alter user kept identified by {SECRET};",
    f"CREATE ROLE kept WITH LOGIN PASSWORD '{SECRET}'",
    f"SET PASSWORD FOR kept = PASSWORD('{SECRET}')",
    f"[SQL: INSERT INTO kept (name, password) VALUES (?, ?)]\n[parameters: ('bob', '{SECRET}')]\n(Background on this)",
    f"[SQL: UPDATE kept SET token=$1 WHERE id=$2]\n[parameters: [('{SECRET}', 1), ('{SECRET}', 2)]]",
    f"(0.001) UPDATE kept SET password = %s WHERE id = %s; args=('{SECRET}', 5); alias=default",
    f"INSERT INTO kept (name, password) VALUES ('bob', '{SECRET}'),\n  ('eve', '{SECRET}')",
    f"DETAIL:  Key (token)=({SECRET}) already exists: kept",
    f"Duplicate entry '{SECRET}' for key 'kept.api_key'",
    f"user: bob\npassword: |\n  {SECRET}\n  {SECRET}\nnext: kept",
    f"password: >-\n  a\n\n  {SECRET}\nnext: kept",
    f"password:\n  {SECRET}\nnext: kept",
    f"secrets:\n- a\n- {SECRET}\nnext: kept",
    f"a:\n  - password: |\n      {SECRET}\n    x: kept\n  - y: kept",
    f'<input type="password" name="kept" value="{SECRET}">',
    f"<input value='{SECRET}' type=password> kept",
    f"<input type=password value={SECRET}> kept",
    f'<input value="{SECRET}" autocomplete="current-password"> kept',
    f'<meta name="csrf-token" content="{SECRET}"/> kept',
    f'<add key="ApiKey" value="{SECRET}" /> kept',
    f'<property name="password">{SECRET}</property> kept',
    json.dumps({"html": f'<input type="password" value="{SECRET}">'}) + " kept",
    f'kept <input type="password" value="{SECRET}',
    f"Bearer: {SECRET} kept",
]


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("field", ["reason", "user_agent"])
def test_a_secret_in_a_command_in_sql_in_yaml_and_in_html_is_masked(written: str, field: str) -> None:
    sent = str(clean({field: written})[field])
    assert SECRET not in sent
    assert MASK in sent
    assert "kept" in sent or "Bearer" in sent


def test_the_values_of_a_path_that_the_events_endpoint_names_as_secrets_are_masked() -> None:
    places = {"path": "/v1/reset/abcdefgh/bob", "url": "https://example.com/reset/abcdefgh/bob?page=2", "note": "kept"}
    sent = clean({"endpoint": "/reset/{token}/{user}", "target": "/reset/abcdefgh/bob", "metadata": places})
    assert "abcdefgh" not in str(sent)
    assert sent["metadata"] == {
        "path": f"/v1/reset/{MASK}/bob",
        "url": f"https://example.com/reset/{MASK}/bob?page=2",
        "note": "kept",
    }
    assert Privacy().event(sent) == sent


class Login(BaseModel):
    user: str
    password: str = Field(min_length=30)
    age: int = 1


class Logins(BaseModel):
    logins: list[Login]


def validation_error(model: type[BaseModel], value: object) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return caught.value


LOGIN = {"user": "bob-the-builder", "password": SECRET, "age": "kept"}
VALIDATION_ERRORS = [
    validation_error(Login, LOGIN),
    validation_error(Logins, {"logins": [{"user": "bob", "password": "x" * 30}, LOGIN]}),
    validation_error(Login, {"user_name": "bob-the-builder", "db_password": SECRET, "age": "kept"}),
    validation_error(Logins, {"logins": [LOGIN | {"password": [SECRET]}]}),
    RequestValidationError([{"type": "x", "loc": ("body", "password"), "msg": "kept", "input": SECRET}], body=LOGIN),
    RequestValidationError([{"type": "x", "loc": ("header", "x-api-key"), "msg": "kept", "input": SECRET}]),
    ResponseValidationError([{"type": "x", "loc": ("response", 0, "token"), "msg": "kept", "input": {"a": SECRET}}]),
]


@pytest.mark.parametrize("error", VALIDATION_ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["reason", "metadata", "unknown"])
def test_a_validation_error_does_not_show_the_value_of_a_sensitive_field(error: Any, where: str) -> None:
    jsonable = json.loads(json.dumps(error.errors(), default=str))
    reordered = [dict(sorted(item.items())) for item in jsonable]
    written = [
        str(error),
        repr(error),
        str(error.errors()),
        json.dumps(jsonable),
        json.dumps(reordered),
        str(reordered),
    ]
    for shown in (*written, *(f"can't read it: {text}" for text in written), error.errors(), reordered):
        event = {"reason": str(shown)} if where == "reason" else {where: {"errors": shown, "other": [{"deep": shown}]}}
        sent = str(clean(event, max_payload_size=4096))
        assert SECRET not in sent
        assert SECRET[-6:] not in sent
        assert "kept" in sent or "missing" in sent  # which has the whole object for its input
    assert SECRET[:5] not in text(f"{error}"[: str(error).find(SECRET[:5]) + 5])


HEADERS = [
    {"name": "accept", "value": "kept"},
    {"name": "X-Api-Key", "value": SECRET},
    {"name": "host", "value": "kept"},
]


@pytest.mark.parametrize("order", [("name", "value"), ("value", "name")])
@pytest.mark.parametrize("label", ["name", "key", "header", "Name"])
def test_a_value_is_masked_by_the_label_beside_it(order: tuple[str, str], label: str) -> None:
    value = "Value" if label == "Name" else "value"
    headers = [{label if key == "name" else value: header[key] for key in order} for header in HEADERS]
    written = json.dumps(headers)
    yaml = "\n".join(f"- {a}: {header[a]}\n  {b}: {header[b]}" for header in headers for a, b in [tuple(header)])
    for shown in (written, f"headers: {written}", json.dumps({"h": written}), str(headers), written[:-1], yaml):
        sent = text(shown)
        assert SECRET not in sent
        assert sent.count("kept") == 2 or shown != written
        assert "alue" in sent
        assert text(sent) == sent
    assert clean({"metadata": {"headers": headers}})["metadata"] == {
        "headers": [{key: MASK if item == SECRET else item for key, item in header.items()} for header in headers]
    }


def luhn(body: str) -> str:
    """Return the digits with the check digit that makes them valid."""
    return next(body + digit for digit in "0123456789" if is_card_number(body + digit))


cards = st.one_of(
    st.from_regex(r"4[0-9]{14}", fullmatch=True),
    st.from_regex(r"5[1-5][0-9]{13}", fullmatch=True),
    st.from_regex(r"3[47][0-9]{12}", fullmatch=True),
    st.from_regex(r"6011[0-9]{11}", fullmatch=True),
    st.from_regex(r"36[0-9]{11}", fullmatch=True),
    st.from_regex(r"3566[0-9]{11}", fullmatch=True),
    st.from_regex(r"62[0-9]{14}", fullmatch=True),
    st.from_regex(r"4[0-9]{17}", fullmatch=True),
).map(luhn)


@given(cards, st.sampled_from(["", " ", "-"]), st.sampled_from(["", "12 ", "order no. 7: ", "n="]))
def test_every_valid_card_number_is_masked_with_blanks_and_dashes_too(card: str, separator: str, before: str) -> None:
    groups = [card[i : i + 4] for i in range(0, 12, 4)] + [card[12:]]
    if len(groups[-1]) < 3:
        groups[-2:] = [groups[-2] + groups[-1]]
    written = separator.join(groups)
    assert text(f"{before}{written}") == f"{before}{MASK}"
    assert text(f"{before}{written}, thanks") == f"{before}{MASK}, thanks"


@given(st.one_of(st.from_regex(r"[0-9]{13}", fullmatch=True), st.from_regex(r"[0127-9][0-9]{13}", fullmatch=True)))
@example("4222222222222")
@example("4006381333931")
def test_thirteen_digits_are_an_order_or_an_article_and_no_card(digits: str) -> None:
    assert text(f"order {digits}") == f"order {digits}"
    assert clean({"metadata": {"n": int(digits)}})["metadata"] == {"n": int(digits)}


def test_every_card_number_of_a_long_run_of_digits_is_masked() -> None:
    cards = "4111 1111 1111 1111 5555 5555 5555 4444"
    assert text(f"123 {cards} 123 " * 3) == f"123 {MASK} {MASK} 123 " * 3


@pytest.mark.parametrize("name", ["url.full", "url.query", "http.target", "endpoint"])
def test_the_value_of_a_decoded_query_goes_on_to_the_next_parameter(name: str) -> None:
    before = "" if name == "url.query" else "/login?"
    written = f"{before}user=bob&password=it's {SECRET}&{SECRET}&page=2"
    masked = f"{before}user=bob&password={MASK}&{MASK}&page=2"
    assert Privacy().changes({name: written}) == {name: masked}
    assert Privacy().changes({name: masked}) == {}


def test_a_card_number_that_is_a_number_is_masked_too() -> None:
    assert clean({"metadata": {"n": int(CARD), "m": int(CARD) + 1}})["metadata"] == {"n": MASK, "m": int(CARD) + 1}


@pytest.mark.parametrize(
    "segment",
    [
        "3f9d8a7b6c5e4d3c2b1a0f9e8d7c6b5a",
        "a1b2c3d4e5f6a7b8c9d0",
        "Zk3vT9qLm2Xw8RbN4yHd",
        "9f8e7d6c-5b4a3928171605f4",
    ],
)
def test_a_segment_of_a_path_that_looks_like_a_key_is_masked(segment: str) -> None:
    assert clean({"endpoint": f"/v1/{segment}/items"})["endpoint"] == f"/v1/{MASK}/items"
    assert text(f"see https://example.com/{segment}?page=1") == f"see https://example.com/{MASK}?page=1"


ORDINARY = [
    "",
    "blocked address",
    "Rate limit exceeded: 10 requests per 60s",
    "too many requests: 21 in 1s",
    "Missing bearer token",
    "Bearer authentication required",
    "HTTP Basic authentication failed",
    "wrong password",
    "the password was wrong, 3 of 5 attempts",
    "Penetration attempt detected: Query param 'password': Value matched pattern '<script'",
    "Country DE not in allowed list",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "curl/8.5.0",
    "203.0.113.7",
    "2001:db8::ff00:42:8329",
    "::ffff:192.0.2.128",
    "123e4567-e89b-12d3-a456-426614174000",
    "41111111-1111-1111-1111-111111111111",
    "1795306053620-ac1f84cb",
    "1795306053620",
    "2026-11-22T04:51:32.000001Z",
    "2026-11-22 04:51:32",
    "0af7651916cd43dd8448eb211c80319c",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "/items/{number}",
    "/users/{session}/password",
    "/files/{secret:path}",
    "/blog/top-10-things-to-do-in-2024-with-python",
    "/static/js/main.8f3a2b1c.chunk.js",
    "/users/123e4567-e89b-12d3-a456-426614174000/orders/20261122",
    "/search?q=shoes&page=2&sort=price",
    "(?i)union\\s+select|<script|\\.\\./",
    "+49 30 901820",
    *("+49 30 123456780", "0049 151 123456789", "+4915112345678", "call 030 1234 5678 or 0151 2345 6789"),
    *("EAN 4006381333931", "IMEI 490154203237518", "IMEI 35-209900-176148-1", "352099001761481", "5901234123457"),
    *("order 4000000000006", "order 5000000000009", "10614141000415", "1717171717171717", "1795306053620000000"),
    "sk-SK,sk;q=0.9",
    "invalid token: expired",
    "Invalid token: signature verification failed",
    "credentials: missing",
    "SyntaxError: Unexpected token: <",
    "0.5709463233870677",
    "http://example.com:8080?email=bob@example.com",
    "/auth/token/refresh",
    "see http://localhost:8080, or write to bob@example.com",
    "http://[2001:db8::1]:8080/a@b",
    "http%3A%2F%2Fexample.com%3A8080%2Fa%40b",
    "postgres://db:5432/shop?user=bob@example.com",
    quote("postgres://db:5432/shop?user=bob@example.com", safe=""),
    "redis://cache:6379/0 is down, write to bob@example.com",
    "oci://registry:5000/shop@sha256:12",
    "auth: Bearer\r\nHost: example.com\r\nAccept: */*",
    "Proxy: basic\nHost: example.com",
    "[SQL: SELECT name FROM users WHERE id = ?]\n[parameters: (5,)]",
    "INSERT INTO users (name) VALUES ('bob')",
    "Duplicate entry 'bob' for key 'users.name'",
    "usage: app --token TOKEN --verbose",
    '<input type="text" name="q" value="shoes">',
    "steps:\n  - run: make\n  - name: test\n",
    "/password/reset",
    "/blog/key-features-of-2024",
    "price: 1234 5678",
    "Request body field 'token': Semantic attack: xss (score: 0.91)",
]


@pytest.mark.parametrize("ordinary", ORDINARY)
def test_ordinary_text_stays_as_it_is(ordinary: str) -> None:
    assert text(ordinary) == ordinary
    assert (
        clean({"endpoint": ordinary, "reason": ordinary, "metadata": {"a": ordinary}}).items()
        >= {
            "endpoint": ordinary,
            "reason": ordinary,
        }.items()
    )


@given(st.uuids(), st.datetimes(timezones=st.just(timezone.utc)), st.ip_addresses(), st.integers(0, 2**128 - 1))
def test_identifiers_times_and_addresses_are_never_harmed(key: Any, when: datetime, address: Any, trace: int) -> None:
    row, _ = to_row(
        {
            "event_type": "x",
            "idempotency_key": key,
            "timestamp": when,
            "ip_address": str(address),
            "endpoint": f"/users/{key}",
            "reason": f"{address} at {when.isoformat()} with {key}",
            "metadata": {"trace_id": f"{trace:032x}", "span_id": f"{trace % 2**64:016x}", "id": str(key)},
        }
    )
    assert Privacy().event(row) is row


WORDS = ("the", "a", "request", "from", "client", "was", "blocked", "after", "attempts", "on", "page", "by", "rule")


@given(st.lists(st.sampled_from(WORDS)))
def test_words_survive(words: list[str]) -> None:
    assert text(" ".join(words), max_payload_size=10_000) == " ".join(words)


fragments = st.sampled_from(
    [
        *TOKENS.values(),
        *("password=", "Cookie: ", "Bearer ", "token", "name=", "form-data;", "<password>", "header:", SECRET, MASK),
        *("Query param name '", "': Value matched", ADDRESS, "ip-hmac-", "4", "4111 ", "é", "😀", "...", "\r\n\r\n"),
        *"&?\"':={}[],\\/ \n-",
        *(
            "%3D",
            "%26",
            "'name': ",
            '"value": ',
            "'loc': ('password',), ",
            "'input': ",
            "[type=x, input_value=",
            "}, {",
        ),
    ]
)
awkward = st.lists(fragments | st.text(max_size=12), max_size=12).map("".join)
limits = st.sampled_from([1, 2, 7, 12, 40, 100, 1024])


@given(awkward, limits, st.booleans())
def test_cleaning_twice_is_cleaning_once_and_no_string_is_longer_than_the_limit(
    written: str, limit: int, capture: bool
) -> None:
    made = Privacy(PrivacySettings(max_payload_size=limit, capture_content=capture, address_key="key"))
    for method in (made.text, made.path, made.address):
        once = method(written)
        assert len(once.encode()) <= limit
        assert method(once) == once
        assert Privacy(made.settings).text(made.text(written)) == made.text(written)


@given(any_events, limits)
def test_an_event_is_cleaned_once_and_for_all(event: SecurityEvent, limit: int) -> None:
    for key in (None, "key"):
        made = Privacy(PrivacySettings(max_payload_size=limit, address_key=key))
        once = made.event(to_row(event)[0])
        assert once is not None
        assert Privacy(made.settings).event(once) == once
        assert (once["idempotency_key"], once["timestamp"]) == (
            event.idempotency_key,
            codec.format_timestamp(event.timestamp),
        )


@given(st.text(max_size=60), limits)
def test_a_string_is_cut_between_characters_and_marked(written: str, limit: int) -> None:
    cut = shorten(written, limit)
    size = len(written.encode())
    assert len(cut.encode()) <= limit
    assert cut == written if size <= limit else cut.endswith("..."[:limit])
    assert written.startswith(cut.removesuffix("...")) or limit < 3
    assert shorten(cut, limit) == cut


@pytest.mark.parametrize("position", [*range(0, 120, 7), *range(900, 1400, 11)])
@pytest.mark.parametrize("secret", [SECRET, JWT, "5555 5555 5555 4444"], ids=["named", "token", "card"])
@pytest.mark.parametrize("limit", [100, 1024])
def test_a_cut_never_shows_half_a_secret(position: int, secret: str, limit: int) -> None:
    announced = f"password={secret}" if secret == SECRET else secret
    sent = text("é " * (position // 2) + announced + " tail" * 1000, max_payload_size=limit)
    assert len(sent.encode()) <= limit
    assert secret[:9] not in sent


def test_a_huge_string_costs_no_more_than_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    real = texts.mask
    monkeypatch.setattr(texts, "mask", lambda value, names: looked_at.append(len(value)) or real(value, names))
    text("password=x " * 1_000_000)
    assert max(looked_at) <= 1024 + texts.LOOKAHEAD


def test_the_users_headers_take_the_place_of_the_default_ones_and_fields_stay_masked() -> None:
    sent = clean(
        {"metadata": {"X-Internal": SECRET, "X-Api-Key": "shown", "password": SECRET}}, sensitive_headers=["x-internal"]
    )
    assert sent["metadata"] == {"X-Internal": MASK, "X-Api-Key": "shown", "password": MASK}
    assert text(f"X-Internal: {SECRET}", sensitive_headers="X-Internal") == f"X-Internal: {MASK}"


def test_credentials_are_masked_whatever_headers_the_user_names() -> None:
    headers = {"Authorization": SECRET, "Proxy-Authorization": SECRET, "Cookie": SECRET, "Set-Cookie": SECRET}
    assert clean({"metadata": dict(headers)}, sensitive_headers=["x-internal"])["metadata"] == dict.fromkeys(
        headers, MASK
    )


def test_names_that_differ_in_a_secret_alone_keep_both_values() -> None:
    sent = clean({"metadata": {f"a {TOKENS['AWS']}": 1, f"a {TOKENS['Stripe']}": 2}})["metadata"]
    assert sent == {f"a {MASK}": 1, f"a {MASK} (2)": 2}


def test_addresses_are_hashed_under_the_key_wherever_they_are() -> None:
    event = {
        "ip_address": ADDRESS,
        "reason": f"IP {ADDRESS} blocked, not 203.0.113.77 nor 1{ADDRESS}",
        "endpoint": f"/unban/{ADDRESS}",
        "peers": [{"remote_addr": f"{ADDRESS}:5123"}],
        "metadata": {
            "client_ip": ADDRESS,
            "ips": [ADDRESS, "2001:db8::1"],
            "headers": [["X-Forwarded-For", f"{ADDRESS}, 198.51.100.2"]],
            "note": f"{ADDRESS} again",
            "body": json.dumps({"client_ip": "198.51.100.9"}),
        },
    }
    sent = clean(event, address_key="a key")
    written = orjson.dumps(sent).decode()
    hashed = str(sent["ip_address"])
    assert hashed.startswith("ip-hmac-")
    assert sent["reason"] == f"IP {hashed} blocked, not 203.0.113.77 nor 1{ADDRESS}"
    assert sent["endpoint"] == f"/unban/{hashed}"
    assert sent["peers"] == [{"remote_addr": f"{hashed}:5123"}]
    assert f'"{ADDRESS}' not in written
    for address in ("2001:db8::1", "198.51.100.2", "198.51.100.9"):
        assert address not in written
    assert Privacy(PrivacySettings(address_key="a key")).event(sent) == sent


@pytest.mark.parametrize(
    ("route", "path", "masked"),
    [
        ("/reset/{user}-{token}", "/reset/bob-abcdefgh", f"/reset/{MASK}"),
        ("/reset/{token}.{format}/x", "/v1/reset/abcdefgh.json/x?page=2", f"/v1/reset/{MASK}/x?page=2"),
        ("/a{token}/{user}", "/aabcdefgh/bob", f"/a{MASK}/bob"),
        ("/{token}}}{user}!", "/abcdefgh}}bob!", f"/{MASK}!"),
        ("/kept/{secret:path}", "/kept/abcdefgh/bob", f"/kept/{MASK}"),
    ],
)
def test_a_segment_of_a_path_is_one_value_of_its_route(route: str, path: str, masked: str) -> None:
    assert clean({"endpoint": route, "metadata": {"url": path}})["metadata"] == {"url": masked}


def test_the_name_of_the_next_header_is_no_token() -> None:
    headers = "Host: example.com\r\nContent-Type: text/html\r\n"
    for scheme in ("Bearer", "bearer", "Basic"):
        for before in ("auth: ", "token=", "x-auth: ", ""):
            assert text(f"{before}{scheme}\r\n{headers}").endswith(headers)
    assert text(f"Proxy: Bearer\r\n {SECRET}\r\n{headers}") == f"Proxy: Bearer\r\n {MASK}\r\n{headers}"


def test_any_address_of_a_log_message_is_hashed_where_a_key_is_set() -> None:
    message = f"attack detected from {ADDRESS} with token={SECRET}, curl 8.5.0"
    hashing = Privacy(PrivacySettings(address_key="a key"))
    assert hashing.message(message) == f"attack detected from {hashing.address(ADDRESS)} with token={MASK} curl 8.5.0"
    assert Privacy().message(message) == f"attack detected from {ADDRESS} with token={MASK} curl 8.5.0"


def test_one_address_has_one_hash_under_a_key_and_another_under_another_key() -> None:
    first, other = Privacy(PrivacySettings(address_key="one")), Privacy(PrivacySettings(address_key="two"))
    assert first.address(ADDRESS) == first.address(f"::ffff:{ADDRESS}")
    assert first.address("2001:DB8:0::1") == first.address("2001:db8::1")
    assert first.address(ADDRESS) != other.address(ADDRESS)
    assert [first.address(nobody) for nobody in ("", "system", "unknown")] == ["", "system", "unknown"]


def test_without_a_key_addresses_stay() -> None:
    assert clean({"ip_address": ADDRESS, "reason": ADDRESS})["ip_address"] == ADDRESS


ATTACK = "<script>alert('x')</script>"
GUARD_CORE = [
    {"event_type": "pattern_detected", "metadata": {"content_preview": ATTACK, "context": "query_param:q"}},
    {"event_type": "pattern_detected", "reason": f"Threat detected in query_param:{ATTACK}"},
    {"event_type": "pattern_detected", "metadata": {"context": f"header:{ATTACK}"}},
    {
        "event_type": "penetration_attempt",
        "reason": f"Penetration attempt detected: Query param name '{ATTACK}': Value matched pattern '<scr'",
        "metadata": {"trigger_info": f"Header '{ATTACK}': Semantic attack: xss (score: 0.9)"},
    },
    {"event_type": "penetration_attempt", "reason": f"x: JSON key '{ATTACK}': Value matched pattern 'y'"},
    {"event_type": "decoding_error", "metadata": {"error": f"can't decode {ATTACK}", "error_type": "url_decode"}},
    {
        "event_type": "detection_engine_callback_error",
        "reason": f"Anomaly callback failed: {ATTACK}",
        "metadata": {"callback_error": ATTACK},
    },
    {"event_type": "custom", "metadata": {"threats": [{"type": "regex", "pattern": "p", "match": ATTACK}]}},
    {"event_type": "access_denied", "reason": f"Referrer 'https://evil.example/{ATTACK}' not in allowed domains"},
]


@pytest.mark.parametrize("event", GUARD_CORE, ids=lambda event: str(event["event_type"]))
def test_what_matched_a_pattern_is_left_out_unless_a_setting_turns_it_on(event: dict[str, object]) -> None:
    assert "alert" not in orjson.dumps(clean(event)).decode()
    assert "alert" in orjson.dumps(clean(event, capture_content=True)).decode()


def test_which_pattern_matched_and_where_is_told() -> None:
    reason = "Penetration attempt detected: Query param 'q': Value matched pattern '<script'"
    assert clean({"reason": reason})["reason"] == reason


def emitted(*changes: Any, **settings: object) -> tuple[list[Any], list[Any]]:
    """Emit one event under settings; return the bodies of the log records and the attributes of the span events."""
    logs, spans = InMemoryLogRecordExporter(), InMemorySpanExporter()
    privacy.configure(**settings)
    with pipeline(logs=[logs], spans=[spans]) as made, made.tracer.start_as_current_span("GET /"):
        made.emitter.emit_event(*changes)
    return [record.log_record for record in logs.get_finished_logs()], [
        event for span in spans.get_finished_spans() for event in span.events
    ]


def test_a_secret_is_in_neither_the_log_record_nor_the_span_event_nor_the_incident() -> None:
    notes, token = incident.begin()
    try:
        logs, spans = emitted(
            {"event_type": "x", "ip_address": ADDRESS, "reason": f"password={SECRET}", "metadata": {"cookie": SECRET}},
            address_key="k",
        )
    finally:
        incident.end(token)
    written = (
        "".join(str((log.body, dict(log.attributes or {}))) for log in logs) + str(spans[0].attributes) + str(notes)
    )
    assert len(logs) == len(spans) == len(notes) == 1
    assert SECRET not in written
    assert ADDRESS not in written
    assert MASK in written


def test_a_metrics_endpoint_and_tags_are_clean() -> None:
    reader = InMemoryMetricReader()
    with pipeline(readers=[reader]) as made:
        made.emitter.record_metric(
            metric_type="threat_level",
            value=1,
            endpoint=f"/reset?token={SECRET}",
            tags={"cookie": SECRET, "key": TOKENS["AWS"], "kept": "yes"},
        )
        data = reader.get_metrics_data()
    assert data is not None
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert dict(point.attributes) == {
        "http.route": f"/reset?token={MASK}",
        "guard.tag.cookie": MASK,
        "guard.tag.key": MASK,
        "guard.tag.kept": "yes",
    }


def add_secret(event: SecurityEvent) -> SecurityEvent:
    event.metadata["password"] = SECRET
    return event


def test_a_processor_sees_a_model_and_what_it_adds_is_cleaned() -> None:
    seen: list[SecurityEvent] = []

    def look(event: SecurityEvent) -> SecurityEvent:
        seen.append(event.model_copy(deep=True))
        return add_secret(event)

    (log,), _ = emitted(SecurityEvent(event_type="x", reason=f"token={SECRET}", own="field"), processors=[look])  # type: ignore[call-arg]
    assert seen[0].reason == f"token={SECRET}"
    assert seen[0].model_extra == {"own": "field"}
    assert isinstance(seen[0].timestamp, datetime)
    assert without_enrichment(row_of(log)["metadata"]) == {"password": MASK}
    assert row_of(log)["own"] == "field"
    assert SECRET not in str((log.body, dict(log.attributes or {})))


def test_processors_run_in_order_and_may_return_a_mapping_which_keeps_the_key_and_the_time() -> None:
    event = SecurityEvent(event_type="x")
    (log,), _ = emitted(event, processors=[lambda event: {"event_type": "y", "reason": event.event_type}, add_secret])
    assert row_of(log)["event_type"] == "y"
    assert row_of(log)["reason"] == "x"
    assert row_of(log)["idempotency_key"] == event.idempotency_key
    assert row_of(log)["timestamp"] == codec.format_timestamp(event.timestamp)


def test_a_processor_may_change_the_time() -> None:
    def to_2026(event: SecurityEvent) -> SecurityEvent:
        event.timestamp = datetime(2026, 1, 2, tzinfo=timezone.utc)
        return event

    (log,), (span,) = emitted({"event_type": "x"}, processors=[to_2026])
    assert row_of(log)["timestamp"] == "2026-01-02T00:00:00.000000Z"
    assert log.timestamp == span.timestamp == 1_767_312_000_000_000_000


def test_an_event_that_a_processor_filters_is_counted() -> None:
    assert emitted({"event_type": "x"}, processors=[lambda event: None]) == ([], [])
    assert TALLY.read().dropped == {"events": {FILTERED: 1}}


def fails(event: SecurityEvent) -> SecurityEvent:
    raise RuntimeError(f"password={SECRET}")


@pytest.mark.parametrize("processor", [fails, lambda event: "text", lambda event: 5], ids=["raises", "text", "number"])
def test_a_processor_that_fails_costs_the_event_which_is_counted_and_said_once(
    processor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert emitted({"event_type": "x"}, processors=[processor]) == ([], [])
    assert TALLY.read().dropped == {"events": {PROCESSOR_ERROR: 2}}
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert SECRET not in caplog.text


def test_an_event_that_can_not_be_cleaned_is_dropped_counted_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(value: str, names: object) -> str:
        raise RuntimeError(value)

    monkeypatch.setattr(texts, "mask", broken)
    for _ in range(2):
        assert emitted({"event_type": "x", "reason": f"password={SECRET}"}) == ([], [])
    assert TALLY.read().dropped == {"events": {PRIVACY_ERROR: 2}}
    assert len(caplog.records) == 1
    assert SECRET not in caplog.text


def test_a_text_that_can_not_be_cleaned_is_masked_and_such_tags_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(value: str, names: object) -> str:
        raise RuntimeError(value)

    monkeypatch.setattr(texts, "mask", broken)
    made = Privacy()
    assert [made.text(SECRET), made.path(SECRET), made.address(SECRET)] == [MASK] * 3
    assert made.tags({"a": SECRET}) == {}


@given(st.dictionaries(st.text(max_size=5), python_values, max_size=4))
def test_cleaning_never_fails_on_what_the_codec_makes_of_any_value(metadata: dict[str, Any]) -> None:
    assert Privacy().event(to_row({"event_type": "x", "metadata": metadata, "own": metadata})[0]) is not None


def deep_json(depth: int) -> str:
    return "[" * depth + "1" + "]" * depth


@pytest.mark.parametrize("depth", [10, 400, 500])
def test_deep_json_in_a_string_is_no_way_around(depth: int) -> None:
    written = deep_json(depth).replace("1", f'{{"password":"{SECRET}"}}')
    assert SECRET not in str(clean({"metadata": {"body": written}}, max_payload_size=10_000)["metadata"])


def test_a_foreign_log_record_is_cleaned_and_seen_by_the_processors() -> None:
    privacy.configure(processors=[add_secret])
    logs = InMemoryLogRecordExporter()
    with pipeline(logs=[logs]) as made:
        made.logs.get_logger("somebody.else").emit(
            event_name="guard.security_event", body={"event_type": "x", "reason": f"Cookie: {SECRET}"}
        )
        (row,) = decoded(rows_of_records(logs.get_finished_logs()))
    assert row["reason"] == f"Cookie: {MASK}"
    assert row["metadata"]["password"] == MASK


def test_foreign_span_events_and_guard_cores_spans_are_cleaned() -> None:
    spans = InMemorySpanExporter()
    with pipeline(spans=[spans]) as made:
        with made.tracer.start_as_current_span("GET /") as span:
            span.add_event(
                "guard.security_event",
                {"guard.event_type": "x", "guard.reason": f"token={SECRET}", "client.address": "a"},
            )
        tracer = made.spans.get_tracer("guard_core.otel")
        with tracer.start_as_current_span("guard.event.pattern_detected") as span:
            span.set_attribute("guard.endpoint", f"/reset?token={SECRET}")
            span.set_attribute("guard.reason", f"Threat detected in query_param:{ATTACK}")
        rows = rows_of_spans(spans.get_finished_spans(), include_logged=True, include_guard_core=True)
    assert len(rows) == 2
    assert SECRET not in str(rows)
    assert "alert" not in str(rows)


def test_processors_see_an_event_of_ours_once_though_it_comes_back_from_a_span() -> None:
    calls: list[str] = []

    def count(event: SecurityEvent) -> SecurityEvent:
        calls.append(event.event_type)
        return event

    privacy.configure(processors=[count])
    spans = InMemorySpanExporter()
    with pipeline(spans=[spans]) as made:
        with made.tracer.start_as_current_span("GET /"):
            made.emitter.emit_event({"event_type": "x"})
        assert len(rows_of_spans(spans.get_finished_spans(), include_logged=True, include_guard_core=True)) == 1
    assert calls == ["x"]


WRONG = [
    ("sensitive_headers", 5),
    ("sensitive_headers", [b"cookie"]),
    ("sensitive_headers", ","),
    ("max_payload_size", 0),
    ("max_payload_size", "many"),
    ("max_payload_size", 1.5),
    ("max_payload_size", True),
    ("address_key", ""),
    ("address_key", "  "),
    ("address_key", 5),
    ("capture_content", "maybe"),
    ("processors", "text"),
    ("processors", [5]),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_keyword_is_refused_by_name_and_the_settings_stay(name: str, value: object) -> None:
    privacy.configure(max_payload_size=77)
    with pytest.raises(ValueError, match=f"^{name} "):
        privacy.configure(**{name: value})
    assert privacy.current().settings.max_payload_size == 77


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(TypeError, match="unknown privacy setting 'sensitive'"):
        privacy.configure(sensitive=["x"])


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MAX_PAYLOAD_SIZE", "0"), ("MAX_PAYLOAD_SIZE", "many"), ("CAPTURE_CONTENT", "yes"), ("SENSITIVE_HEADERS", ",")],
)
def test_a_wrong_variable_is_logged_once_and_the_safe_default_is_used(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(f"OTEL_PYTHON_GUARD_{variable}", value)
    late.offer("the agent", max_payload_size=5000, capture_content=True, sensitive_headers=["x"])
    settings = privacy.current().settings
    assert getattr(settings, variable.lower()) == getattr(PrivacySettings(), variable.lower())
    privacy.configure()
    assert len(caplog.messages) == 1
    assert f"OTEL_PYTHON_GUARD_{variable} is {value!r}" in caplog.text


def test_a_blank_key_of_the_environment_hashes_under_a_key_that_nobody_knows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_GUARD_ADDRESS_KEY", "  ")
    assert privacy.current().address(ADDRESS).startswith("ip-hmac-")
    assert "OTEL_PYTHON_GUARD_ADDRESS_KEY has a value that can't be used" in caplog.text
    assert str(privacy.current().settings.address_key) not in caplog.text


def test_a_keyword_wins_over_the_environment_which_wins_over_a_late_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert privacy.current().settings == PrivacySettings()
    late.offer("the agent", max_payload_size=100, capture_content=True)
    assert privacy.current().settings == PrivacySettings(max_payload_size=100, capture_content=True)
    monkeypatch.setenv("OTEL_PYTHON_GUARD_MAX_PAYLOAD_SIZE", "200")
    privacy.configure()
    assert privacy.current().settings == PrivacySettings(max_payload_size=200, capture_content=True)
    privacy.configure(max_payload_size=300, capture_content=None)
    assert privacy.current().settings == PrivacySettings(max_payload_size=300, capture_content=True)


def test_every_setting_can_come_from_the_environment() -> None:
    environ = {
        "OTEL_PYTHON_GUARD_SENSITIVE_HEADERS": "X-One, x-two",
        "OTEL_PYTHON_GUARD_MAX_PAYLOAD_SIZE": "64",
        "OTEL_PYTHON_GUARD_ADDRESS_KEY": "the key",
        "OTEL_PYTHON_GUARD_CAPTURE_CONTENT": "TRUE",
    }
    settings = PrivacySettings.resolve(environ)
    assert settings == PrivacySettings(frozenset({"x-one", "x-two"}), 64, "the key", True)
    assert "the key" not in repr(settings)


def test_an_error_never_shows_the_key() -> None:
    with pytest.raises(ValueError, match="address_key has a value that can't be used") as caught:
        PrivacySettings.resolve({}, address_key=b"the key")
    assert "the key" not in str(caught.value)


@example("é" * 2000)
@given(st.text(min_size=1, max_size=30).map(lambda part: part * 100))
def test_a_long_string_is_cut_to_the_default_limit(written: str) -> None:
    assert len(str(clean({"reason": written})["reason"]).encode()) <= 1024
