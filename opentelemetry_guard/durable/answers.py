"""What a receiver's answer means: the specification's rules ("OTLP/HTTP Response") as a function.

The same request is made again only after 429, 502, 503 and 504, and where the receiver itself did not answer: none at
all, a redirect, a web page. Another 4xx or 5xx says that it must not be. Where that is about the request, it is a dead
letter, and the next one is sent; where it is about all of them (a token, an address, a receiver that fails), the route
rests, and what waits is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess

from ..delivery.backoff import parse_retry_after
from ..delivery.outcome import Outcome, Verdict
from ..queue.base import DROPPED_REJECTED, Kind
from .forms import FORMS

RETRYABLE = frozenset({429, 502, 503, 504})
"""Statuses that ask for the same request again (OTLP specification, "Retryable Response Codes")."""
ABOUT_THE_REQUEST = frozenset({400, 409, 422})
"""Statuses that say that a request can't be processed because of what is in it."""

_CHECK_CREDENTIALS = "check the token in OTEL_EXPORTER_OTLP_HEADERS or in the exporter's headers"
_CHECK_ADDRESS = "check OTEL_EXPORTER_OTLP_ENDPOINT and the path of its requests: an OTLP/HTTP receiver must be there"
_CHECK_RECEIVER = "see the receiver's own log"
_NOT_KEPT = "the refused request is a dead letter"


def judge(kind: Kind, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """Return what an answer means.

    Args:
        kind: what was sent.
        status: HTTP status code.
        headers: of the answer, with lower-case names.
        body: of the answer, as much of it as was read.
    """
    if 200 <= status < 300:
        return _judge_success(kind, status, headers, body)
    message = _message(headers, body)
    if status in RETRYABLE:
        return Outcome(Verdict.RETRY, status, message, parse_retry_after(headers.get("retry-after")))
    if status == 413:
        return Outcome(Verdict.TOO_LARGE, status, message)
    if status in ABOUT_THE_REQUEST:
        return Outcome(Verdict.REFUSED, status, message, is_final=True)
    if 300 <= status < 400:
        seen = f"redirected to {headers.get('location', 'nowhere')[:120]}; redirects are never followed"
        return Outcome(Verdict.MISCONFIGURED, status, seen, remedy=_CHECK_ADDRESS)
    remedy = _CHECK_CREDENTIALS if status in (401, 403, 407) else _CHECK_RECEIVER if status >= 500 else _CHECK_ADDRESS
    may_pass = status not in (401, 403, 407)
    return Outcome(
        Verdict.MISCONFIGURED, status, message, remedy=f"{remedy}; {_NOT_KEPT}", may_pass=may_pass, is_final=True
    )


def _judge_success(kind: Kind, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """Return what was kept. A status of success is one whatever the body is, but for a web page's: that is no receiver.

    Nothing is sent again for a body that can't be read: the receiver has what it has taken.
    """
    media = _media(headers)
    if media == "text/html":
        seen = "a web page answers in the receiver's place"
        return Outcome(Verdict.MISCONFIGURED, status, seen, remedy=_CHECK_ADDRESS, may_pass=True)
    rejected, message = (_of_json if media == "application/json" else _of_protobuf)(kind, body)
    return Outcome(Verdict.ACCEPTED, status, message, rejected={DROPPED_REJECTED: rejected} if rejected > 0 else {})


def _of_protobuf(kind: Kind, body: bytes) -> tuple[int, str]:
    form = FORMS[kind]
    answer: Any = form.response()
    try:
        answer.ParseFromString(body)
    except DecodeError:
        return 0, "the answer's body is no OTLP response"
    return getattr(answer.partial_success, form.rejected), answer.partial_success.error_message


def _of_json(kind: Kind, body: bytes) -> tuple[int, str]:
    try:
        partial = orjson.loads(body or b"{}").get("partialSuccess") or {}
        # 64-bit numbers are text in Protobuf's JSON; either is taken.
        name = FORMS[kind].rejected
        words = name.split("_")
        count = partial.get(words[0] + "".join(map(str.title, words[1:])), 0)
        return int(count), str(partial.get("errorMessage", ""))
    except (ValueError, TypeError, AttributeError):
        return 0, "the answer's body is no OTLP response"


def _message(headers: Mapping[str, str], body: bytes) -> str:
    """Return what a refusal says: the message of its `google.rpc.Status`, else its text."""
    media = _media(headers)
    if media in ("application/x-protobuf", "application/protobuf"):
        # Of the same form on the wire as far as we read it: a number in field 1, a text in field 2.
        status = ExportTracePartialSuccess()
        try:
            status.ParseFromString(body)
        except DecodeError:
            return "an answer that can't be read"
        return " ".join(status.error_message.split())
    if media == "application/json":
        try:
            return " ".join(str(orjson.loads(body)["message"]).split())
        except (ValueError, TypeError, LookupError):
            pass
    return " ".join(body[:4096].decode(errors="replace").split())


def _media(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
