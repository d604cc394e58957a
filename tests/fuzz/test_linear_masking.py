"""Masking takes a time in proportion to a text's length, whatever a hostile client writes.

Each unit of `support.hostile_texts`, and units that a seed makes of their parts, is repeated to 4, 8 and 16 kB, and the
times are compared: they double twice where masking is linear, and grow by 16 where it is quadratic. FUZZ_SCALE=20 tries
20 times as many, FUZZ_SEED begins elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind
from support import linear
from support.hostile_texts import KNOWN, PARTS, grown, numbered, unit
from support.linear import MOST, SIZES

from opentelemetry_guard import privacy
from opentelemetry_guard.privacy import Privacy, PrivacySettings
from opentelemetry_guard.privacy import logs as log_privacy
from opentelemetry_guard.privacy import spans as span_privacy

pytestmark = pytest.mark.fuzz

SCALE = float(os.environ.get("FUZZ_SCALE", "1"))
SEED = int(os.environ.get("FUZZ_SEED", "20"))
NOTICEABLE = 0.002
"""Seconds of processor time below which a text of 16 kB is not compared: that is less than the clock's noise."""

UNITS = (*KNOWN, *PARTS[:: max(1, round(12 / SCALE))], *map(unit, range(SEED, SEED + round(20 * SCALE))))

Cleaning = Callable[[str], object]


def _private() -> Privacy:
    """Return a privacy that remembers nothing and looks at the whole of every text here."""
    return Privacy(PrivacySettings(max_payload_size=2 * SIZES[-1]))


def _mapping(written: str) -> object:
    names = {f"{written[:40]}{number}": written[:40] for number in range(len(written) // 40)}
    return _private().cleaned({"event_type": "x", "timestamp": "", "idempotency_key": "", "metadata": names})


def _span(written: str) -> object:
    provider = TracerProvider(shutdown_on_exit=False)
    span_privacy.install(provider)
    names = ("url.full", "url.query", "user_agent.original", "guard.reason", "http.request.header.x")
    span = provider.get_tracer("fastapi").start_span(
        "GET /", kind=SpanKind.SERVER, attributes=dict.fromkeys(names, written)
    )
    return span.end()


def _exception(written: str) -> object:
    provider = TracerProvider(shutdown_on_exit=False)
    span_privacy.install(provider)
    span = provider.get_tracer("fastapi").start_span("GET /", kind=SpanKind.SERVER)
    span.record_exception(ValueError(written))
    return span.end()


def _log(written: str) -> object:
    provider = LoggerProvider(shutdown_on_exit=False)
    log_privacy.install(provider)
    return provider.get_logger("fastapi").emit(body=written, attributes={"exception.message": written})


WAYS: dict[str, Cleaning] = {
    "text": lambda written: _private().text(written),
    "path": lambda written: _private().path(written),
    "mapping": _mapping,
    "span attributes": _span,
    "exception": _exception,
    "log record": _log,
}


@pytest.fixture(autouse=True)
def _whole_texts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let spans and logs look at the whole of these texts too, so that no bound hides what grows."""
    monkeypatch.setattr(span_privacy, "MAX_TEXT", 2 * SIZES[-1])
    monkeypatch.setattr(span_privacy, "MAX_TRACE", 2 * SIZES[-1])
    privacy.reset()
    yield
    span_privacy.uninstall()
    log_privacy.uninstall()
    privacy.reset()


def growth(clean: Cleaning, made: Callable[[int], str]) -> float:
    """Return how much longer four times a text takes; what was remembered is forgotten before each."""

    def measured(size: int, tries: int) -> float:
        written = made(size)
        return linear.seconds(lambda: clean(written), tries, before=privacy.reset)

    return linear.growth(measured, NOTICEABLE, tries=(1, 3, 5))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [grown, numbered], ids=["equal", "numbered"])
def test_four_times_the_text_takes_about_four_times_as_long(way: str, shape: Callable[[str, int], str]) -> None:
    clean = WAYS[way]
    measured = {part: growth(clean, lambda size, part=part: shape(part, size)) for part in UNITS}  # type: ignore[misc]
    assert {part: ratio for part, ratio in measured.items() if ratio > MOST} == {}


def test_metadata_whose_names_differ_in_a_secret_alone_takes_no_longer_for_each() -> None:
    def clean(count: str) -> object:
        names: dict[str, object] = {f"pwd%3D{number:05}": 1 for number in range(len(count))}
        return _private().tags(names)  # type: ignore[arg-type]

    assert growth(clean, lambda size: "x" * (size // 4)) < MOST


@pytest.mark.parametrize("between", ["", "-", "}", "/"])
def test_a_path_that_looks_like_a_routes_template_takes_a_time_in_proportion_to_what_it_is_held_against(
    between: str,
) -> None:
    template = "/{token}" + "".join(f"{between}{{a{number}}}" for number in range(20)) + "!"
    event: dict[str, object] = {"event_type": "x", "timestamp": "", "idempotency_key": "", "endpoint": template}

    def clean(written: str) -> object:
        return _private().cleaned({**event, "metadata": {"url": f"/{written}"}})

    assert growth(clean, lambda size: grown(f"x{between}", size)) < MOST
    assert _private().cleaned({**event, "metadata": {"url": "/abcdefgh"}}) is not None


def test_a_request_with_a_hostile_header_and_query_takes_a_time_in_proportion_to_them() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    span_privacy.install(provider)
    app = FastAPI()
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    try:
        client = TestClient(app)
        for part in ("pwd,'a ", "token:[a", "Header 'x"):
            ratio = growth(
                lambda text: client.get("/x", params={"q": text}, headers={"user-agent": text, "referer": text}),
                lambda size, part=part: grown(part, size),  # type: ignore[misc]
            )
            assert ratio < MOST, part
    finally:
        FastAPIInstrumentor.uninstrument_app(app)
