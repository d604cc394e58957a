"""What a Guard backend answers, as data: for whoever writes a backend or an agent, against any address with a key.

It needs the standard library alone. Run it from a terminal, with the key in ``OTEL_EXPORTER_GUARD_API_KEY``::

    python -m opentelemetry_guard.backend.conformance http://127.0.0.1:8317 --project default

or from tests::

    @pytest.mark.parametrize("case", conformance.cases("default"), ids=str)
    def test_the_backend_answers_as_it_should(case):
        assert conformance.problems(case, "http://127.0.0.1:8317", "the key") == []
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit
from uuid import uuid4

MAX_BODY_BYTES = 262_144
"""Bytes of a body that a backend takes, after decompression."""

TIMEOUT = 30.0
"""Seconds that an answer may take."""

_KEY_VARIABLE = "OTEL_EXPORTER_GUARD_API_KEY"
_BUSY = (429, 503)


@dataclass(frozen=True, slots=True)
class Case:
    """One request, and what may be answered to it.

    Attributes:
        name: what is shown by it.
        method: of the request.
        path: after the backend's address.
        statuses: those that are right.
        body: as it is sent.
        headers: besides the key's and the type's.
        key: the API key; None is the one that is given, "" sends none.
        in_chunks: whether the body is sent without its length.
        fields: values that the answer's JSON must have.
        explains: whether the answer's JSON must say what is wrong, in `detail` or `errors`.
    """

    name: str
    method: str
    path: str
    statuses: tuple[int, ...] = (200,)
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    in_chunks: bool = False
    fields: Mapping[str, object] = field(default_factory=dict)
    explains: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers with lower-case names, and the body's JSON; None where it is none."""

    status: int
    headers: Mapping[str, str]
    document: object


def cases(project_id: str, max_body_bytes: int = MAX_BODY_BYTES) -> tuple[Case, ...]:
    """Return the cases in the order in which they are to be run; each call makes events of its own.

    Args:
        project_id: the key's project.
        max_body_bytes: the backend's limit of a body.
    """
    return (
        *_taken(project_id, max_body_bytes),
        *_refused(project_id, max_body_bytes),
        *_denied(project_id),
        *_other_calls(project_id),
    )


def _taken(project_id: str, limit: int) -> Iterator[Case]:
    first = _batch(project_id, events=[_event()])
    one = {"events_received": 1, "events_processed": 1, "events_dropped_invalid_timestamp": 0}
    both = {**one, "metrics_received": 1, "metrics_processed": 1}
    odd = _event(status_code=403, metadata={"nested": [1, None, {"a": "ü"}]}, a_key_of_tomorrow={"b": 2})
    of_your_own = _event(event_type="custom_rule_triggered")
    packed = gzip.compress(_batch(project_id, events=[_event()], metrics=[_metric()]))
    padded = _batch(project_id, events=[_event()]).ljust(limit)
    yield _post("a batch with an event is stored", first, fields={**_SUCCESS, **one})
    yield _post("the same batch again is no error", first, fields={**_SUCCESS, "events_received": 1})
    yield _post("an empty batch is taken", _batch(project_id), fields={**_SUCCESS, "events_received": 0})
    yield _post("unknown keys and nested metadata are taken", _batch(project_id, events=[odd]), fields=one)
    yield _post("types of one's own are taken", _batch(project_id, events=[of_your_own]), fields=one)
    yield _post("a packed batch is taken", packed, headers=_GZIP, fields={**_SUCCESS, **both})
    yield _post("a body of the limit's size is taken", padded, fields=one)
    yield Case(
        "metrics are stored",
        "POST",
        "/api/v1/metrics",
        body=_batch(project_id, metrics=[_metric(), _metric(metric_type="response_time", tags={"p95": "0.5"})]),
        fields={**_SUCCESS, "metrics_received": 2, "metrics_processed": 2},
    )


def _refused(project_id: str, limit: int) -> Iterator[Case]:
    good = _batch(project_id, events=[_event()])
    large = _batch(project_id).ljust(limit + 1)
    wrong = _batch(project_id, events=[_event(), _event(status_code={"no": "number"})])
    unknown = _batch(project_id, metrics=[_metric(metric_type="no_type_of_the_contract")])
    yield _post("a body beyond the limit is refused", large, (413,))
    yield _post("the limit is that of the body after decompression", gzip.compress(large), (413,), headers=_GZIP)
    yield _post("a body without a length is refused", good, (411,), in_chunks=True)
    yield _post("gzip that is cut is refused", gzip.compress(good)[:-4], (400,), headers=_GZIP)
    yield _post("what is no gzip is refused", good, (400,), headers=_GZIP)
    yield _post("what is no JSON is refused", b"{", (400, 422), explains=True)
    yield _post("NaN is no JSON", _batch(project_id, metrics=[_metric(value=float("nan"))]), (400, 422), explains=True)
    yield _post("a field of a wrong type is refused, and told", wrong, (400, 422), explains=True)
    yield _post("a type of metrics that there is not is refused, and told", unknown, (400, 422), explains=True)


def _denied(project_id: str) -> Iterator[Case]:
    good = _batch(project_id, events=[_event()])
    yield _post("a batch without a key is denied", good, (401,), key="")
    yield _post("a batch with an unknown key is denied", good, (401, 403), key="unknown-" + uuid4().hex)
    yield _post("another project than the key's is denied", good, (401, 403), headers={"X-Project-ID": uuid4().hex})
    yield Case("rules without a key are denied", "GET", "/api/v1/rules", (401,), key="")


def _other_calls(project_id: str) -> Iterator[Case]:
    status = {
        "timestamp": _time(),
        "status": "healthy",
        "uptime": 12.5,
        "events_sent": 1,
        "events_failed": 0,
        "buffer_size": 0,
        "last_flush": None,
        "errors": [],
    }
    body, installation = json.dumps(status).encode(), {"X-Agent-Install-Id": str(uuid4())}
    named = {"X-Project-ID": project_id}
    yield Case("a status is taken", "POST", "/api/v1/status", (200, 201), body, installation, fields=_SUCCESS)
    yield Case("the probe answers", "GET", "/api/v1/status", headers=named)
    yield Case("rules are handed out, or there are none", "GET", "/api/v1/rules", (200, 204, 304, 404), headers=named)


_SUCCESS: Mapping[str, object] = {"success": True}
_GZIP = {"Content-Encoding": "gzip"}


def _post(
    name: str,
    body: bytes,
    statuses: tuple[int, ...] = (200, 201),
    *,
    headers: Mapping[str, str] | None = None,
    key: str | None = None,
    in_chunks: bool = False,
    fields: Mapping[str, object] | None = None,
    explains: bool = False,
) -> Case:
    path = "/api/v1/events"
    return Case(name, "POST", path, statuses, body, headers or {}, key, in_chunks, fields or {}, explains)


def _batch(project_id: str, **rows: list[dict[str, object]]) -> bytes:
    envelope = {"project_id": project_id, "batch_id": str(uuid4()), "created_at": _time(), "compressed": False}
    return json.dumps({**envelope, "events": [], "metrics": [], **rows}).encode()


def _event(**fields: object) -> dict[str, object]:
    told = {"event_type": "ip_blocked", "ip_address": "192.0.2.1", "action_taken": "request_blocked"}
    return {"idempotency_key": str(uuid4()), "timestamp": _time(), **told, **fields}


def _metric(**fields: object) -> dict[str, object]:
    return {"timestamp": _time(), "metric_type": "request_count", "value": 3.0, "endpoint": "/", "tags": {}, **fields}


def _time() -> str:
    # A little earlier, for a backend whose clock is behind.
    return (datetime.now(timezone.utc) - timedelta(seconds=5)).isoformat().replace("+00:00", "Z")


def problems(case: Case, url: str, key: str, timeout: float = TIMEOUT) -> list[str]:
    """Ask, and return what is wrong with the answer; nothing where it is right.

    Args:
        case: one of `cases`.
        url: the backend's address.
        key: an API key of it.
        timeout: in seconds.

    Raises:
        OSError: there is no answer.
        ValueError: `url` is no http or https URL.
    """
    answer = ask(case, url, key, timeout)
    if answer.status in _BUSY:
        after = answer.headers.get("retry-after", "")
        told = f"Retry-After is {after!r}" if after.isdigit() and int(after) >= 1 else "and no Retry-After of 1 or more"
        return [f"answered {answer.status} (busy), {told}"]
    found = []
    if answer.status not in case.statuses:
        found.append(f"answered {answer.status}, expected {' or '.join(map(str, case.statuses))}")
    document = answer.document if isinstance(answer.document, dict) else {}
    if answer.status in case.statuses and answer.status in (200, 201):
        if answer.document is None:
            found.append("the answer is no JSON: it could be a proxy's page")
        for name, value in case.fields.items():
            if document.get(name) != value or name not in document:
                found.append(f"{name} is {document.get(name)!r}, expected {value!r}")
        if document.get("errors"):
            found.append("errors is not empty")
    if case.explains and not (document.get("detail") or document.get("errors")):
        found.append("neither detail nor errors says what is wrong")
    return found


def ask(case: Case, url: str, key: str, timeout: float = TIMEOUT) -> Answer:
    """Send the request of `case` and return the answer; a redirect is not followed. Raises as `problems`."""
    parts = urlsplit(url)
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        raise ValueError(f"The address {url!r} must be an http or https URL: http://127.0.0.1:8317")
    headers = {"User-Agent": "guard-conformance", **case.headers}
    if sent := key if case.key is None else case.key:
        headers["X-API-Key"] = sent
    if case.method == "POST":
        headers["Content-Type"] = "application/json"
    connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=timeout)
    try:
        body = iter([case.body]) if case.in_chunks else case.body or None
        target = parts.path.rstrip("/") + case.path
        connection.request(case.method, target, body, headers, encode_chunked=case.in_chunks)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, _read(answer.read()))
    except http.client.HTTPException as error:
        raise OSError(f"the answer is no HTTP: {error!r}") from error
    finally:
        connection.close()


def _read(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None


def run(url: str, key: str, project_id: str, max_body_bytes: int = MAX_BODY_BYTES) -> dict[str, list[str]]:
    """Ask everything, and return what is wrong by the case's name; raises as `problems`."""
    return {case.name: problems(case, url, key) for case in cases(project_id, max_body_bytes)}


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each case; return 1 where one fails."""
    parser = argparse.ArgumentParser(
        prog="python -m opentelemetry_guard.backend.conformance",
        description=f"Ask a Guard backend whether it keeps the contract. The key is read from {_KEY_VARIABLE}.",
    )
    parser.add_argument("url", help="the backend's address")
    parser.add_argument("--project", default="default", help="the key's project")
    parser.add_argument("--max-body-bytes", type=int, default=MAX_BODY_BYTES, help="the backend's limit of a body")
    given = parser.parse_args(arguments)
    key = os.environ.get(_KEY_VARIABLE)
    if not key:
        parser.error(f"{_KEY_VARIABLE} is not set: set it to a key of the backend")
    try:
        told = run(given.url, key, given.project, given.max_body_bytes)
    except (OSError, ValueError) as error:
        parser.error(f"{given.url} cannot be asked: {error}")
    for name, wrong in told.items():
        print(f"{'FAILED' if wrong else 'ok':<7}{name}{': ' if wrong else ''}{'; '.join(wrong)}")
    return 1 if any(told.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
