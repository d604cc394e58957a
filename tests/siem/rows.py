"""Rows for the tests of the formats: every known type, and rows with hostile contents."""

from __future__ import annotations

from hypothesis import strategies as st

from opentelemetry_guard.events.codec import Row, complete
from opentelemetry_guard.events.known import KNOWN

TRACE_ID, SPAN_ID = 0xAF7651916CD43DD8448EB211C80319C0, 0xB7AD6B7169203331

ACTIONS = ("request_blocked", "banned", "logged_only", "rate_limited", "")


def full(event_type: str, action: str = "request_blocked") -> Row:
    """Return a row that says everything."""
    return complete(
        {
            "idempotency_key": "0197a1b2-c3d4-7e5f-8a6b-1c2d3e4f5a6b",
            "timestamp": "2026-03-04T12:34:56.789012Z",
            "event_type": event_type,
            "ip_address": "203.0.113.7",
            "country": "NL",
            "user_agent": "sqlmap/1.9",
            "action_taken": action,
            "reason": "SQL injection",
            "endpoint": "/search?q=1",
            "method": "GET",
            "status_code": 403,
            "response_time": 0.25,
            "decorator_type": "access",
            "rule_type": "sql_injection",
            "pattern_matched": "union select",
            "handler_name": "search",
            "metadata": {
                "guard.threat_score": 83,
                "guard.behavior.correlation_key": "0f1e2d3c4b5a6978",
                "guard.behavior.recent_event_count": 4,
                "guard.service.name": "shop",
                "guard.service.version": "1.2.3",
                "guard.service.instance.id": "pod-7",
                "guard.deployment.environment": "production",
                "user": "42",
                "category": "injection",
                "depth": {"of": ["things"]},
            },
            "tenant": "north",
        },
        TRACE_ID,
        SPAN_ID,
    )


def bare(event_type: str) -> Row:
    """Return a row that says nothing but its type."""
    return complete(
        {
            "idempotency_key": "0197a1b2-c3d4-7e5f-8a6b-1c2d3e4f5a6b",
            "timestamp": "2026-03-04T12:34:56Z",
            "event_type": event_type,
        }
    )


def every_known() -> list[Row]:
    """Return rows of every known type and of one of the application's own, with every action, and bare ones."""
    types = (*KNOWN, "custom_rule_triggered")
    return [full(kind, action) for kind in types for action in ACTIONS] + [bare(kind) for kind in types]


_HOSTILE = st.sampled_from(
    ["|", "=", "\\", "\n", "\r", "\r\n", " ", "\t", "\x00", "\x1b[31m", "\u2028", "\x85", "act=x", "CEF:0|", "\\=", "é"]
)
_TEXTS = st.lists(_HOSTILE | st.text(max_size=5), max_size=8).map("".join)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
_METADATA_KEYS = st.sampled_from(list(full("x")["metadata"])) | _TEXTS  # type: ignore[arg-type]


@st.composite
def hostile(draw: st.DrawFn) -> Row:
    """Draw a row as anybody may send it: any text in any field, any JSON in the metadata and in unknown fields."""
    optional = st.none() | _TEXTS
    row = {
        "idempotency_key": "0197a1b2-c3d4-7e5f-8a6b-1c2d3e4f5a6b",
        "timestamp": "2026-03-04T12:34:56Z",
        "event_type": draw(st.sampled_from(sorted(KNOWN)) | _TEXTS),
        "ip_address": draw(
            st.sampled_from(["203.0.113.7", "2001:db8::7", "fe80::1%eth0", "::ffff:192.0.2.1"]) | _TEXTS
        ),
        "status_code": draw(st.none() | st.integers(-(2**63), 2**63 - 1)),
        "response_time": draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        "metadata": draw(st.dictionaries(_METADATA_KEYS, _JSON, max_size=5)),
        **draw(st.dictionaries(_TEXTS, _JSON, max_size=2)),
    }
    names = (
        *("country", "user_agent", "action_taken", "reason", "endpoint", "method", "decorator_type"),
        *("rule_type", "pattern_matched", "handler_name"),
    )
    return complete(row | {name: draw(optional) for name in names})
