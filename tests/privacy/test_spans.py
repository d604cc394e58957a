"""Server spans carry no secret to anybody's exporter; other spans, and spans after `uninstall`, stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Response
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import (
    ConcurrentMultiSpanProcessor,
    ReadableSpan,
    Span,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider, SpanKind
from pydantic import BaseModel, Field, TypeAdapter

from opentelemetry_guard import privacy
from opentelemetry_guard.privacy import spans as span_privacy
from opentelemetry_guard.privacy import texts

SECRET = "hunter2-Zx81qT"
KEY = "3f9d8a7b6c5e4d3c2b1a0f9e8d7c6b5a"
CARD = "4111 1111 1111 1111"
HTTP = "opentelemetry.instrumentation.asgi"


class Traced:
    """A provider that keeps its spans; its exporter comes before our processor."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    @property
    def written(self) -> str:
        return "".join(span.to_json() for span in self.spans)


@pytest.fixture
def traced() -> Iterator[Traced]:
    privacy.reset()
    made = Traced()
    span_privacy.install(made.provider)
    yield made
    span_privacy.uninstall()
    made.provider.shutdown()
    privacy.reset()


@pytest.mark.parametrize("convention", ["default", "http", "http/dup"])
def test_a_request_leaves_no_secret_in_its_spans(
    traced: Traced, convention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "opentelemetry.instrumentation._semconv._OpenTelemetrySemanticConventionStability._initialized", False
    )
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", convention)
    for side in ("REQUEST", "RESPONSE"):
        monkeypatch.setenv(f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_{side}", ".*")
    app = FastAPI()

    @app.get("/keys/{key}")
    def key(key: str, response: Response) -> None:
        response.set_cookie("session", SECRET)

    @app.get("/fail")
    def fail() -> None:
        raise RuntimeError(f"password={SECRET}")

    FastAPIInstrumentor.instrument_app(app, tracer_provider=traced.provider)
    try:
        client = TestClient(app, raise_server_exceptions=False)
        headers = {"Authorization": f"Bearer {SECRET}", "X-Card": CARD, "User-Agent": f"agent token={SECRET}"}
        client.get(f"/keys/{KEY}?password={SECRET}&page=2", headers=headers)
        client.get(f"/nowhere/{KEY}?token={SECRET}", headers=headers)
        client.get("/fail", headers=headers)
    finally:
        FastAPIInstrumentor.uninstrument_app(app)
    assert len(traced.spans) >= 3
    for planted in (SECRET, KEY, CARD):
        assert planted not in traced.written
    assert "page=2" in traced.written
    assert "RuntimeError" in traced.written
    assert "set_cookie" in traced.written


@pytest.mark.parametrize("convention", ["default", "http/dup"])
@pytest.mark.parametrize("template", ["/reset/{token}", "/api/{user}/{reset_token}/confirm", "/file/{secret:path}"])
def test_the_values_of_a_path_that_its_route_names_as_secrets_are_masked(
    traced: Traced, convention: str, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "opentelemetry.instrumentation._semconv._OpenTelemetrySemanticConventionStability._initialized", False
    )
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", convention)
    app = FastAPI()
    app.get(template)(lambda: None)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=traced.provider)
    try:
        path = (
            template.replace("{user}", "kept").replace("{secret:path}", "{token}").replace("{reset_token}", "{token}")
        )
        assert TestClient(app).get(path.replace("{token}", "abcdefgh"), params={"page": "2"}).status_code == 200
    finally:
        FastAPIInstrumentor.uninstrument_app(app)
    assert "abcdefgh" not in traced.written
    assert template in traced.written
    assert path.replace("{token}", "[REDACTED]") in traced.written


def test_the_validation_errors_of_pydantic_and_fastapi_leave_no_value_of_a_sensitive_field(traced: Traced) -> None:
    class Login(BaseModel):
        user: str
        password: str = Field(max_length=5)

    app = FastAPI()

    @app.get("/response", response_model=list[Login])
    def response() -> list[dict[str, str]]:
        return [{"user": "bob", "password": SECRET}]

    @app.get("/nested")
    def nested() -> None:
        TypeAdapter(dict[str, list[Login]]).validate_python({"logins": [{"user": "bob", "password": SECRET}]})

    FastAPIInstrumentor.instrument_app(app, tracer_provider=traced.provider)
    try:
        client = TestClient(app, raise_server_exceptions=False)
        assert [client.get(path).status_code for path in ("/response", "/nested")] == [500, 500]
    finally:
        FastAPIInstrumentor.uninstrument_app(app)
    assert SECRET not in traced.written
    assert "ResponseValidationError" in traced.written
    assert "logins.0.password" in traced.written


class Starting(SpanProcessor):
    """Somebody's processor, which notes how spans begin."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.seen.append((span.name, dict(span.attributes or {})))


class Ending(SpanProcessor):
    """Another one, which notes them when they are about to end."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def _on_ending(self, span: Span) -> None:
        self.seen.append((span.name, dict(span.attributes or {})))


def secret_span(provider: TracerProvider) -> Span:
    span = provider.get_tracer(HTTP).start_span(
        f"GET /keys/{KEY}",
        kind=SpanKind.SERVER,
        attributes={"url.query": f"token={SECRET}", "url.path": f"/keys/{KEY}"},
    )
    assert isinstance(span, Span)
    return span


MASKED = ("GET /keys/[REDACTED]", {"url.query": "token=[REDACTED]", "url.path": "/keys/[REDACTED]"})


def test_what_is_set_at_the_start_is_masked_for_other_processors_at_once(traced: Traced) -> None:
    starting = Starting()
    traced.provider.add_span_processor(starting)
    span = secret_span(traced.provider)
    assert starting.seen == [MASKED]
    assert (span.name, dict(span.attributes or {})) == MASKED
    span.end()


@pytest.mark.parametrize("kind", [SynchronousMultiSpanProcessor, ConcurrentMultiSpanProcessor])
def test_the_processors_after_ours_see_only_what_is_masked_whenever_they_came(kind: Any) -> None:
    privacy.reset()
    provider = TracerProvider(shutdown_on_exit=False, active_span_processor=kind())
    span_privacy.install(provider)
    secret_span(provider).end()
    starting, ending, exporter = Starting(), Ending(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    secret_span(provider).end()
    provider.add_span_processor(starting)
    provider.add_span_processor(ending)
    secret_span(provider).end()
    provider.shutdown()
    if kind is SynchronousMultiSpanProcessor:  # the other one asks all at once
        assert starting.seen == [MASKED]
        assert ending.seen == [MASKED]
    written = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert SECRET not in written
    assert KEY not in written


@pytest.mark.parametrize("method", ["on_start", "_on_ending"])
def test_a_processor_of_the_sdk_that_somebody_has_changed_may_look_at_a_span_that_begins(
    traced: Traced, method: str
) -> None:
    secret_span(traced.provider).end()
    changed, seen = SimpleSpanProcessor(InMemorySpanExporter()), []
    setattr(changed, method, lambda span, *_, **__: seen.append(dict(span.attributes)))
    traced.provider.add_span_processor(changed)
    secret_span(traced.provider).end()
    assert seen == [MASKED[1]]


def test_addresses_are_hashed_when_a_span_begins(traced: Traced) -> None:
    privacy.configure(address_key="k" * 32)
    span = traced.provider.get_tracer(HTTP).start_span(
        "GET /", kind=SpanKind.SERVER, attributes={"client.address": "192.0.2.7"}
    )
    assert isinstance(span, Span)
    assert str((span.attributes or {})["client.address"]).startswith("ip-hmac-")
    span.end()


def test_what_other_releases_of_the_sdk_keep_elsewhere_is_masked_at_the_start(traced: Traced) -> None:
    processor = span_privacy.SpanPrivacy()
    span = secret_span(TracerProvider(shutdown_on_exit=False))
    processor.on_start(span)
    assert (span.name, dict(span.attributes or {})) == MASKED


def test_what_holds_no_secret_stays_as_it_is_however_long(traced: Traced) -> None:
    attributes = {
        "url.path": "/items/7",
        "note": "x" * 5000,
        "http.status_code": 200,
        "http.request.header.a": ("b", "c"),
    }
    traced.provider.get_tracer(HTTP).start_span("GET", kind=SpanKind.SERVER, attributes=attributes).end()
    assert dict(traced.spans[0].attributes or {}) == attributes


def test_addresses_are_hashed_where_a_key_is_set(traced: Traced) -> None:
    privacy.configure(address_key="key")
    attributes = {"client.address": "203.0.113.7", "http.request.header.x_forwarded_for": ("203.0.113.7",)}
    traced.provider.get_tracer(HTTP).start_span("GET", kind=SpanKind.SERVER, attributes=attributes).end()
    hashed = privacy.current().address("203.0.113.7")
    assert dict(traced.spans[0].attributes or {}) == {
        "client.address": hashed,
        "http.request.header.x_forwarded_for": (hashed,),
    }


def test_guard_cores_own_spans_are_masked_and_the_applications_are_not(traced: Traced) -> None:
    for scope in ("guard_core.otel", "the.application"):
        traced.provider.get_tracer(scope).start_span("work", attributes={"guard.reason": f"token={SECRET}"}).end()
    masked, left = traced.spans
    assert dict(masked.attributes or {}) == {"guard.reason": "token=[REDACTED]"}
    assert dict(left.attributes or {}) == {"guard.reason": f"token={SECRET}"}


def test_a_second_installation_adds_nothing_and_an_uninstalled_one_does_nothing(traced: Traced) -> None:
    span_privacy.install(traced.provider)
    assert len(traced.provider._active_span_processor._span_processors) == 2
    span_privacy.uninstall()
    attributes = {"url.query": f"token={SECRET}"}
    traced.provider.get_tracer(HTTP).start_span("GET", kind=SpanKind.SERVER, attributes=attributes).end()
    span_privacy.install(traced.provider)
    traced.provider.get_tracer(HTTP).start_span("GET", kind=SpanKind.SERVER, attributes=attributes).end()
    assert [dict(span.attributes or {})["url.query"] for span in traced.spans] == [
        f"token={SECRET}",
        "token=[REDACTED]",
    ]
    assert len(traced.provider._active_span_processor._span_processors) == 2


def test_a_provider_that_records_nothing_is_left_alone() -> None:
    span_privacy.install(NoOpTracerProvider())


def test_a_span_that_can_not_be_cleaned_loses_its_attributes_and_nothing_raises(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(text: str, names: object) -> str:
        raise RuntimeError(text)

    monkeypatch.setattr(texts, "mask", broken)
    span = traced.provider.get_tracer(HTTP).start_span("GET", kind=SpanKind.SERVER)
    span.set_attribute("url.query", f"token={SECRET}")
    span.record_exception(RuntimeError(SECRET))
    span.end()
    assert len(traced.spans) == 1
    assert SECRET not in traced.written
    assert SECRET not in caplog.text
    assert "server spans can't be cleaned of secrets" in caplog.text


ADDRESSES = ("203.0.113.7", "2001:db8::7")


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "name",
    [
        *("guard.ip_address", "guard.client_ip", "client.address", "network.peer.address", "net.peer.ip"),
        *("net.sock.peer.addr", "http.client_ip", "client.socket.address", "http.request.header.x_forwarded_for"),
        *("http.request.header.forwarded", "http.request.header.x-real-ip", "attackerIp", "X-Vercel-Forwarded-For"),
    ],
)
@pytest.mark.parametrize("scope", ["guard_core.otel", HTTP])
def test_a_client_address_is_hashed_under_every_name_and_in_the_texts_that_quote_it(
    traced: Traced, scope: str, name: str, address: str
) -> None:
    privacy.configure(address_key="key")
    value: str | tuple[str, ...] = (address,) if ".header." in name else address
    with traced.provider.get_tracer(scope).start_as_current_span("GET /", kind=SpanKind.SERVER) as span:
        span.set_attributes({name: value, "guard.reason": f"IP {address} is banned", "note": f"from {address}:80"})
        span.set_attribute("user_agent.original", "Mozilla/5.0 Chrome/120.0.0.0 Safari/537.36")
        span.record_exception(RuntimeError(f"{address} was refused"))
    assert address not in traced.written
    assert privacy.current().address(address) in traced.written
    assert "Chrome/120.0.0.0" in traced.written


@pytest.mark.parametrize(
    "name", ["server.address", "net.host.ip", "network.local.address", "recipe", "membership", "zip"]
)
def test_the_addresses_of_the_servers_side_and_names_that_only_end_alike_stay(traced: Traced, name: str) -> None:
    privacy.configure(address_key="key")
    with traced.provider.get_tracer(HTTP).start_as_current_span("GET /", kind=SpanKind.SERVER) as span:
        span.set_attribute(name, "198.51.100.1")
    assert "198.51.100.1" in traced.written


keys = st.sampled_from(
    ["http.url", "http.target", "http.route", "user_agent.original", "http.status_code", "token", "x"]
)
values = st.one_of(
    st.sampled_from(
        ["/items/7", "/reset/{token}", f"/reset/{SECRET}", f"/?token={SECRET}", "GET", CARD, f"Bearer {KEY}"]
    ),
    st.text("abc/?=&%019{}", max_size=12),
    st.integers(),
    st.booleans(),
    st.lists(st.sampled_from(["a", CARD]), max_size=2).map(tuple),
)
held = st.tuples(
    st.sampled_from(["GET /", "GET /reset/{token}", f"GET /{KEY}"]), st.dictionaries(keys, values, max_size=5)
)


@pytest.mark.parametrize("key", [None, "k" * 32])
@given(st.lists(held, min_size=1, max_size=6))
def test_what_is_known_of_a_span_is_what_cleaning_leaves_as_it_is(key: str | None, spans: list[Any]) -> None:
    clean = privacy.Privacy(privacy.PrivacySettings(address_key=key))
    for name, attributes in (*spans, *spans):
        if clean.knows(name, attributes):
            fresh = privacy.Privacy(privacy.PrivacySettings(address_key=key))
            assert fresh.path(name) == name
            assert fresh.changes(attributes) == {}
            assert fresh.route_changes(attributes, attributes.get("http.route")) == {}
        clean.path(name)
        clean.route_changes(attributes, attributes.get("http.route"))
        clean.changes(attributes)


def test_the_same_span_is_known_when_it_comes_again() -> None:
    clean, attributes = (
        privacy.Privacy(),
        {"http.route": "/items/{n}", "http.target": "/items/7", "http.status_code": 200},
    )
    assert not clean.knows("GET /items/{n}", attributes)
    clean.path("GET /items/{n}")
    clean.route_changes(attributes, "/items/{n}")
    clean.changes(attributes)
    assert clean.knows("GET /items/{n}", attributes)


def test_other_settings_forget_what_was_known(traced: Traced) -> None:
    tracer = traced.provider.get_tracer(HTTP)
    for _ in range(2):
        tracer.start_span("GET /", kind=SpanKind.SERVER, attributes={"http.target": "/?voucher=x7Qz"}).end()
    privacy.configure(sensitive_headers=("voucher",))
    tracer.start_span("GET /", kind=SpanKind.SERVER, attributes={"http.target": "/?voucher=x7Qz"}).end()
    assert ["x7Qz" in span.to_json() for span in traced.spans] == [True, True, False]
