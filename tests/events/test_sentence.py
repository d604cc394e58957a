"""The body of an event's log record is one line for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from support.strategies import any_events

from opentelemetry_guard.events.codec import to_row
from opentelemetry_guard.events.sentence import sentence
from opentelemetry_guard.models import SecurityEvent


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {
                "method": "GET",
                "endpoint": "/search",
                "ip_address": "203.0.113.7",
                "action_taken": "blocked",
                "reason": "SQL injection",
            },
            "GET /search from 203.0.113.7 blocked: SQL injection",
        ),
        ({"ip_address": "203.0.113.7", "reason": "too many"}, "from 203.0.113.7: too many"),
        ({"method": "GET", "endpoint": "/a"}, "GET /a: x"),
        ({"reason": "Redis is gone"}, "Redis is gone"),
        ({}, "x"),
        ({"reason": "a\r\nb\x1b[31m\u202ec"}, "a\ufffd\ufffdb\ufffd[31m\ufffdc"),
    ],
)
def test_an_event_in_words(fields: dict[str, str], told: str) -> None:
    assert sentence(to_row({"event_type": "x", **fields})[0]) == told


@given(any_events)
def test_whatever_the_fields_hold_it_is_one_line_that_can_be_printed(event: SecurityEvent) -> None:
    assert sentence(to_row(event)[0]).isprintable()
