"""The wire contract's answer table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.delivery.outcome import MAX_REASON, Verdict, judge

OK = b'{"success": true}'
ERROR = b'{"detail": "no"}'


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, OK, Verdict.ACCEPTED),
        (200, b"{}", Verdict.ACCEPTED),
        (200, b'{"success": true, "errors": []}', Verdict.ACCEPTED),
        (200, b'{"success": false}', Verdict.PARTIAL),
        (200, b'{"success": true, "errors": ["row 3"]}', Verdict.PARTIAL),
        (200, b'{"errors": {"3": "bad"}}', Verdict.PARTIAL),
        (200, b"<html><title>Sign in</title></html>", Verdict.RETRY),
        (200, b"", Verdict.RETRY),
        (200, b'{"success": tr', Verdict.RETRY),
        (200, b"\xff\xfe", Verdict.RETRY),
        (201, OK, Verdict.ACCEPTED),
        (201, b"", Verdict.ACCEPTED),
        (201, b"<html>", Verdict.RETRY),
        (202, b"", Verdict.ACCEPTED),
        (202, b'{"success": false}', Verdict.PARTIAL),
        (204, b"", Verdict.ACCEPTED),
        (301, b"", Verdict.MISCONFIGURED),
        (302, OK, Verdict.MISCONFIGURED),
        (304, b"", Verdict.MISCONFIGURED),
        (308, b"", Verdict.MISCONFIGURED),
        (400, ERROR, Verdict.REFUSED),
        (401, ERROR, Verdict.MISCONFIGURED),
        (403, ERROR, Verdict.MISCONFIGURED),
        (400, b'{"errors": ["row 3"]}', Verdict.REFUSED),
        (400, b"", Verdict.MISCONFIGURED),
        (400, b"<html>400 The plain HTTP request was sent to HTTPS port</html>", Verdict.MISCONFIGURED),
        (400, b'{"message": null}', Verdict.MISCONFIGURED),
        (400, b'{"detail": ""}', Verdict.MISCONFIGURED),
        (400, b'["detail"]', Verdict.MISCONFIGURED),
        (400, b'{"detail": "cut where reading en', Verdict.REFUSED),
        (404, ERROR, Verdict.MISCONFIGURED),
        (404, b"default backend - 404", Verdict.MISCONFIGURED),
        (407, b"", Verdict.MISCONFIGURED),
        (410, ERROR, Verdict.MISCONFIGURED),
        (411, b"<html>", Verdict.MISCONFIGURED),
        (415, ERROR, Verdict.MISCONFIGURED),
        (421, b"", Verdict.MISCONFIGURED),
        (431, b"", Verdict.MISCONFIGURED),
        (405, ERROR, Verdict.MISCONFIGURED),
        (408, ERROR, Verdict.RETRY),
        (413, ERROR, Verdict.TOO_LARGE),
        (422, ERROR, Verdict.REFUSED),
        (422, b'{"detail": [{"loc": ["body", "events", 3], "msg": "bad"}]}', Verdict.REFUSED),
        (422, b"<html>Unprocessable</html>", Verdict.MISCONFIGURED),
        (422, b'{"success": false}', Verdict.MISCONFIGURED),
        (425, ERROR, Verdict.RETRY),
        (429, ERROR, Verdict.RETRY),
        (451, ERROR, Verdict.MISCONFIGURED),
        (500, OK, Verdict.RETRY),
        (501, ERROR, Verdict.RETRY),
        (501, b"<html>Unsupported method</html>", Verdict.RETRY),
        (502, b"<html>", Verdict.RETRY),
        (503, b"", Verdict.RETRY),
        (504, b"", Verdict.RETRY),
        (507, b"", Verdict.RETRY),
        (599, b"", Verdict.RETRY),
    ],
)
def test_the_answer_table(status: int, body: bytes, verdict: Verdict) -> None:
    outcome = judge(status, {}, body)
    assert outcome.verdict is verdict
    assert outcome.status == status


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520])
def test_retry_after_is_read_on_every_retryable_answer(status: int) -> None:
    assert judge(status, {"retry-after": "17"}, b"").retry_after == 17.0


def test_a_redirect_says_where_to() -> None:
    assert "https://elsewhere.example/x" in judge(301, {"location": "https://elsewhere.example/x"}, b"").reason


@pytest.mark.parametrize(
    ("status", "remedy", "may_pass"),
    [
        (401, "OTEL_EXPORTER_GUARD_API_KEY", False),
        (403, "OTEL_EXPORTER_GUARD_PROJECT_ID", False),
        (302, "OTEL_EXPORTER_GUARD_ENDPOINT", False),
        (407, "HTTPS_PROXY", False),
        (404, "the proxy's route", True),
        (410, "OTEL_EXPORTER_GUARD_ENDPOINT", True),
    ],
)
def test_an_answer_that_holds_a_route_says_what_to_do(status: int, remedy: str, may_pass: bool) -> None:
    outcome = judge(status, {}, b"")
    assert remedy in outcome.remedy
    assert outcome.may_pass is may_pass


def test_an_answer_of_a_stranger_says_what_was_seen() -> None:
    headers = {"server": "nginx/1.25", "content-type": "text/html"}
    reason = judge(404, headers, b"<h1>\n 404\tNot Found</h1>").reason
    assert reason == "from nginx/1.25, text/html: '<h1> 404 Not Found</h1>'"


def test_a_refusal_carries_the_answers_text() -> None:
    assert judge(422, {}, b'{"detail": "row 3"}').reason == '{"detail": "row 3"}'


@given(st.integers(100, 999), st.binary(max_size=5000), st.text(max_size=20))
def test_every_answer_has_a_verdict_and_a_bounded_text(status: int, body: bytes, retry_after: str) -> None:
    outcome = judge(status, {"retry-after": retry_after}, body)
    assert len(outcome.reason) <= MAX_REASON
    if outcome.verdict is Verdict.ACCEPTED:
        assert 200 <= status < 300
