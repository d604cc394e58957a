"""What the backend's answer means, and what is to be done: the wire contract's table as a function."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from enum import Enum

import orjson

from ..decision.signing import Proof
from .backoff import parse_retry_after

MAX_REASON = 500
"""Characters of an answer's text that are kept."""

RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that ask for another try; so does every other 5xx."""


class Verdict(Enum):
    """What is to be done with the batch that was sent."""

    ACCEPTED = "accepted"
    """The backend has it: acknowledge."""
    RETRY = "retry"
    """The backend can't now, or nobody knows: the same bytes again, later."""
    PARTIAL = "partial"
    """The backend took only a part and doesn't say which: the same bytes again a few times, then a dead letter."""
    TOO_LARGE = "too_large"
    """Split in halves."""
    REFUSED = "refused"
    """Some row is refused: narrow it down, deliver the rest."""
    MISCONFIGURED = "misconfigured"
    """Key, project or address are wrong, or something else has answered in the backend's place: keep everything and
    ask seldom."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended.

    `status` is the HTTP status, 0 where there was no answer; `reason` is a
    bounded text that holds no secret; `retry_after` is in seconds. For a
    verdict of MISCONFIGURED, `remedy` says what a person can do, and
    `may_pass` that it may also pass by itself (a maintenance page).

    Of an accepted batch the backend may not have kept every row:
    `invalid_timestamps` counts the events that it has dropped for their
    timestamps, `processed` the rows that it has kept, None where it does not
    say. `server_time` is its clock in Unix seconds, None where it is not told.
    `rejected` says what the sender has made of that: rows by the reason of
    the ledger, with the cause in `reason`.

    With `is_final` the same rows must not be sent again, whatever the verdict.
    """

    verdict: Verdict
    status: int = 0
    reason: str = ""
    retry_after: float | None = None
    timed_out: bool = False
    remedy: str = ""
    may_pass: bool = False
    invalid_timestamps: int = 0
    processed: int | None = None
    server_time: float | None = None
    rejected: Mapping[str, int] = field(default_factory=dict)
    is_final: bool = False

    @property
    def text(self) -> str:
        """Status and reason, for people."""
        return f"{self.status} {self.reason}".strip() if self.status else self.reason


def is_retryable(status: int) -> bool:
    """Whether a status asks for the same request again."""
    return status in RETRYABLE or 500 <= status < 600


def judge(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """Return what an answer means (wire contract, "What each answer must do").

    Args:
        status: HTTP status code.
        headers: of the answer, with lower-case names.
        body: of the answer, as much of it as was read.
    """
    reason = body[: 4 * MAX_REASON].decode(errors="replace").strip()[:MAX_REASON]
    retry_after = parse_retry_after(headers.get("retry-after"))
    if status in (201, 202, 204) and not body.strip():
        return Outcome(Verdict.ACCEPTED, status)
    if 200 <= status < 300:
        return replace(_judge_success(status, body, reason, retry_after), server_time=_server_time(headers))
    if is_retryable(status):
        return Outcome(Verdict.RETRY, status, reason, retry_after)
    if status == 413:
        return Outcome(Verdict.TOO_LARGE, status, reason)
    if status in (400, 422) and _is_about_rows(body):
        return Outcome(Verdict.REFUSED, status, reason)
    return _judge_stranger(status, headers, reason)


def as_unproven(outcome: Outcome) -> Outcome:
    """Return what a refusal of rows means where nothing was ever accepted: it may be another service that answers."""
    reason = f"rows are refused, and nothing was ever accepted here: {outcome.reason}"[:MAX_REASON]
    return Outcome(Verdict.MISCONFIGURED, outcome.status, reason, remedy=_CHECK_ADDRESS, may_pass=True)


def too_large(size: int) -> Outcome:
    """Return the outcome of a body that is not sent, since smaller ones were refused for their size."""
    return Outcome(Verdict.TOO_LARGE, 413, f"its body has {size} bytes, more than is taken")


@dataclass(frozen=True, slots=True)
class RulesAnswer:
    """What a request for dynamic rules brought.

    `document` is the rules' JSON as the backend sent it, None where nothing
    has changed or there are no rules; `etag` names that version of it, and
    `proof` is its signature, as yet unchecked: None where it has none.
    """

    outcome: Outcome
    document: bytes | None = None
    etag: str | None = None
    proof: Proof | None = None


def judge_rules(status: int, headers: Mapping[str, str], body: bytes) -> RulesAnswer:
    """Return what an answer to ``GET /api/v1/rules`` means (wire contract, "Endpoints").

    ``{}``, 204, 304 and 404 all say that there is nothing to take over: the rules that are known stay.
    """
    if status in (204, 304, 404):
        return RulesAnswer(Outcome(Verdict.ACCEPTED, status))
    outcome = judge(status, headers, body)
    if status != 200 or outcome.verdict is not Verdict.ACCEPTED or body.strip() == b"{}":
        return RulesAnswer(outcome)
    return RulesAnswer(outcome, body, headers.get("etag"))


def _judge_success(status: int, body: bytes, reason: str, retry_after: float | None) -> Outcome:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        # A captive portal or a proxy answers 200 as well: only JSON proves that the backend has the batch.
        return Outcome(Verdict.RETRY, status, f"the answer is not the backend's JSON: {reason[:120]!r}", retry_after)
    if not isinstance(answer, dict):
        return Outcome(Verdict.ACCEPTED, status)
    dropped = _count(answer, "events_dropped_invalid_timestamp") or 0
    received = _total(answer, "events_received", "metrics_received")
    processed = _total(answer, "events_processed", "metrics_processed")
    # Errors that only explain what was dropped ask for no other try: it would bring what was processed twice.
    explained = dropped > 0 and processed is not None and processed + dropped == received
    if answer.get("success") is False or (answer.get("errors") and not explained):
        return Outcome(Verdict.PARTIAL, status, reason, retry_after)
    return Outcome(Verdict.ACCEPTED, status, invalid_timestamps=dropped, processed=processed)


def _total(answer: Mapping[str, object], *names: str) -> int | None:
    """Return the sum of the counts that an answer has under these names, None where it has none."""
    counts = [count for name in names if (count := _count(answer, name)) is not None]
    return sum(counts) if counts else None


def _count(answer: Mapping[str, object], name: str) -> int | None:
    count = answer.get(name)
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _server_time(headers: Mapping[str, str]) -> float | None:
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (LookupError, ValueError, TypeError, OverflowError):
        return None


_CUT_VERDICT = re.compile(rb'\s*\{\s*"(?:detail|errors)"\s*:\s*[\[{"]')


def _is_about_rows(body: bytes) -> bool:
    """Whether an answer of 400 or 422 is the backend's own: JSON that says what it has against the rows."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        # An answer that quotes many rows may have been cut where reading ends.
        return _CUT_VERDICT.match(body) is not None
    return isinstance(answer, dict) and bool(answer.get("detail") or answer.get("errors"))


_CHECK_KEY = "check OTEL_EXPORTER_GUARD_API_KEY and OTEL_EXPORTER_GUARD_PROJECT_ID: a key belongs to one project"
_CHECK_PROXY = "check the proxy's name and password in HTTPS_PROXY or HTTP_PROXY"
_CHECK_TARGET = "set OTEL_EXPORTER_GUARD_ENDPOINT to the backend's own address"
_CHECK_ADDRESS = (
    "a proxy in front of the Guard backend or another service seems to answer in its place: check "
    "OTEL_EXPORTER_GUARD_ENDPOINT, and that the proxy's route leads to a backend that runs"
)


def _judge_stranger(status: int, headers: Mapping[str, str], reason: str) -> Outcome:
    """Return what an answer means that is no verdict on rows."""
    if status in (401, 403):
        return Outcome(Verdict.MISCONFIGURED, status, reason, remedy=_CHECK_KEY)
    if status == 407:
        return Outcome(Verdict.MISCONFIGURED, status, reason, remedy=_CHECK_PROXY)
    if 300 <= status < 400:
        seen = f"redirected to {headers.get('location', 'nowhere')[:120]}; redirects are never followed"
        return Outcome(Verdict.MISCONFIGURED, status, seen, remedy=_CHECK_TARGET)
    server = headers.get("server", "a server without a name")[:60]
    kind = headers.get("content-type", "an answer of no type")[:60]
    seen = f"from {server}, {kind}: {' '.join(reason.split())[:200]!r}"
    return Outcome(Verdict.MISCONFIGURED, status, seen, remedy=_CHECK_ADDRESS, may_pass=True)
