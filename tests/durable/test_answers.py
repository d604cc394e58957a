"""What each answer means: the table of the OTLP specification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess

from opentelemetry_guard.delivery.outcome import Outcome, Verdict
from opentelemetry_guard.durable.answers import judge
from opentelemetry_guard.durable.forms import FORMS, OTLP

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json; charset=utf-8"}


def judged(status: int, body: bytes = b"", headers: dict[str, str] | None = None, kind: str = "spans") -> Outcome:
    return judge(kind, status, PROTOBUF if headers is None else headers, body)


@pytest.mark.parametrize("status", range(100, 600))
def test_only_four_statuses_ask_for_the_same_request_again(status: int) -> None:
    outcome = judged(status)
    again = outcome.verdict in (Verdict.RETRY, Verdict.PARTIAL)
    assert again == (status in (429, 502, 503, 504))
    if status >= 400 and not again and status != 413:
        assert outcome.is_final


@pytest.mark.parametrize("kind", OTLP.kinds)
def test_a_partial_success_says_how_many_rows_were_rejected_and_why(kind: str) -> None:
    form = FORMS[kind]
    answer = form.response()
    setattr(answer.partial_success, form.rejected, 7)  # type: ignore[attr-defined]
    answer.partial_success.error_message = "too old"  # type: ignore[attr-defined]
    outcome = judged(200, answer.SerializeToString(), kind=kind)
    assert (outcome.verdict, outcome.rejected, outcome.reason) == (
        Verdict.ACCEPTED,
        {"rejected_by_backend": 7},
        "too old",
    )


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("spans", b'{"partialSuccess":{"rejectedSpans":"7","errorMessage":"why"}}'),
        ("logs", b'{"partialSuccess":{"rejectedLogRecords":7,"errorMessage":"why"}}'),
        ("points", b'{"partialSuccess":{"rejectedDataPoints":"7","errorMessage":"why"}}'),
    ],
)
def test_a_receiver_may_answer_in_json(kind: str, body: bytes) -> None:
    outcome = judged(200, body, JSON, kind)
    assert (outcome.rejected, outcome.reason) == ({"rejected_by_backend": 7}, "why")


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[]", b"ok", b"\xff\xff", b'{"partialSuccess":null}'])
@pytest.mark.parametrize("headers", [PROTOBUF, JSON, {}])
def test_a_success_is_one_whatever_its_body_is(body: bytes, headers: dict[str, str]) -> None:
    assert judged(200, body, headers).verdict is Verdict.ACCEPTED


def test_a_web_page_is_no_receivers_answer() -> None:
    outcome = judged(200, b"<html>", {"content-type": "text/html; charset=utf-8"})
    assert (outcome.verdict, outcome.is_final) == (Verdict.MISCONFIGURED, False)


def test_a_refusal_has_the_message_of_its_status() -> None:
    status = ExportTracePartialSuccess(rejected_spans=3, error_message="field is\nbad")
    assert judged(400, status.SerializeToString()).reason == "field is bad"
    assert judged(400, b'{"code":3,"message":"field is bad"}', JSON).reason == "field is bad"
    assert judged(400, b"field  is bad", {}).reason == "field is bad"


@pytest.mark.parametrize("status", [429, 503])
def test_what_a_receiver_asks_for_is_heard(status: int) -> None:
    assert judged(status, headers={**PROTOBUF, "retry-after": "7"}).retry_after == 7.0


@given(st.sampled_from(list(OTLP.kinds)), st.integers(100, 599), st.binary(max_size=200), st.sampled_from([0, 1, 2]))
def test_no_answer_is_an_error_of_ours(kind: str, status: int, body: bytes, media: int) -> None:
    assert judged(status, body, [PROTOBUF, JSON, {}][media], kind).verdict in Verdict
