"""What it costs to keep secrets in: an event that is emitted, and a request's spans."""

from __future__ import annotations

import itertools

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Tracer

from opentelemetry_guard.events.codec import Row, to_row
from opentelemetry_guard.privacy import Privacy, PrivacySettings
from opentelemetry_guard.privacy import spans as span_privacy

from .timing import compare, show

CALLS = 500
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
EVENT = {
    "event_type": "access_denied",
    "ip_address": "203.0.113.7",
    "action_taken": "blocked",
    "reason": "blocked address",
    "endpoint": "/items/{number}",
    "method": "GET",
    "user_agent": AGENT,
    "status_code": 403,
    "metadata": {"rule": "addresses", "score": 7, "user": "eve"},
}
SECRETS = {
    **EVENT,
    "endpoint": "/reset?token=abc&page=2",
    "metadata": {"headers": [["authorization", "Bearer abc"], ["accept", "*/*"]], "body": '{"password":"abc"}'},
}
ATTRIBUTES = {
    "http.scheme": "http",
    "http.host": "example.com",
    "http.flavor": "1.1",
    "http.target": "/items/5",
    "http.url": "http://example.com/items/5?page=2",
    "http.method": "GET",
    "http.user_agent": AGENT,
    "net.peer.ip": "203.0.113.7",
}


def _row(fields: dict[str, object]) -> Row:
    return to_row(fields)[0]


def _request(tracer: Tracer) -> None:
    """Make the spans of one request as FastAPI's instrumentation does."""
    with tracer.start_as_current_span("GET /items/{number}", kind=SpanKind.SERVER, attributes=ATTRIBUTES) as span:
        span.set_attribute("http.route", "/items/{number}")
        for kind in ("start", "body"):
            name, attributes = "GET /items/{number} http send", {"asgi.event.type": f"http.response.{kind}"}
            tracer.start_span(name, attributes=attributes).end()


def _tracer(private: bool) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    if private:
        span_privacy.install(provider)
    return provider.get_tracer("opentelemetry.instrumentation.fastapi")


def main() -> None:
    """Print the cost of cleaning an event beside that of making its row, and of a request's spans with and without."""
    usual, secrets = _row(EVENT), _row(SECRETS)
    fresh = itertools.cycle(
        _row(
            {
                **EVENT,
                "ip_address": f"203.0.{number % 256}.{number // 256}",
                "user_agent": f"{AGENT} {number}",
                "endpoint": f"/items/{number}/x",
                "reason": f"blocked {number}",
            }
        )
        for number in range(5000)
    )
    made, hashing = Privacy(), Privacy(PrivacySettings(address_key="key"))
    hooked = Privacy(PrivacySettings(processors=(lambda event: event,)))
    long = "GET /search?q=shoes and a few words more: " * 100
    events = {
        "for comparison: event to row": lambda: _row(EVENT),
        "a usual event": lambda: made.event(usual),
        "an event with 4 texts never seen before": lambda: made.event(next(fresh)),
        "an event with 3 secrets": lambda: made.event(secrets),
        "a usual event, address hashed": lambda: hashing.event(usual),
        "a usual event, one processor": lambda: hooked.event(usual),
        "a text of 4 kB": lambda: made.text(long),
    }
    show("privacy of an event, one call", compare(events, calls=CALLS))
    plain, private = _tracer(False), _tracer(True)
    spans = {"spans of a request": lambda: _request(plain), "the same, masked": lambda: _request(private)}
    show("privacy of spans, one request", compare(spans, rounds=15, calls=CALLS))


if __name__ == "__main__":
    main()
