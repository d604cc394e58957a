"""The conformance kit holds of our own backend, and finds what another one does wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend

from opentelemetry_guard.backend import conformance


@pytest.fixture(scope="module")
def backend(module_database: Path | URL) -> Iterator[RunningBackend]:
    # With the platform's window, which everything that the kit sends has to be in.
    with running_backend(db=module_database, window_days="7") as running:
        yield running


@pytest.mark.parametrize("case", conformance.cases("test-project"), ids=str)
def test_our_backend_answers_as_it_should(backend: RunningBackend, case: conformance.Case) -> None:
    assert conformance.problems(case, backend.url, backend.api_key) == []


def test_the_command_tells_each_case_and_succeeds(
    backend: RunningBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_GUARD_API_KEY", backend.api_key)
    assert conformance.main([backend.url, "--project", "test-project"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(conformance.cases("test-project"))
    assert all(line.startswith("ok ") for line in lines)


def test_the_command_fails_where_a_case_does(
    backend: RunningBackend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_GUARD_API_KEY", backend.api_key)
    assert conformance.main([backend.url, "--project", "another-project"]) == 1
    told = capsys.readouterr().out
    assert "FAILED a batch with an event is stored: answered 403, expected 200 or 201" in told
    assert backend.api_key not in told


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """Serve one answer to whatever is asked, and give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


COUNTS = {"events_received": 1, "events_processed": 1, "events_dropped_invalid_timestamp": 0}


@pytest.mark.parametrize(
    ("status", "body", "headers", "told"),
    [
        (200, b"<html>", {}, "no JSON"),
        (200, b"{}", {}, "success is None, expected True"),
        (200, json.dumps({"success": True, **COUNTS, "events_processed": 0}).encode(), {}, "events_processed is 0"),
        (200, json.dumps({"success": True, **COUNTS, "errors": ["x"]}).encode(), {}, "errors is not empty"),
        (302, b"", {"Location": "/elsewhere"}, "answered 302"),
        (503, b"{}", {}, "no Retry-After"),
        (429, b"{}", {"Retry_After": "0"}, "no Retry-After"),
        (429, b"{}", {"Retry_After": "7"}, "Retry-After is '7'"),
    ],
)
def test_a_wrong_answer_is_found(status: int, body: bytes, headers: dict[str, str], told: str) -> None:
    case = conformance.cases("p")[0]
    with answering(status, body, **headers) as url:
        assert told in "; ".join(conformance.problems(case, url, "key"))


def test_a_refusal_that_explains_nothing_is_found() -> None:
    (case,) = (one for one in conformance.cases("p") if one.name == "what is no JSON is refused")
    with answering(400, b"{}") as url:
        assert conformance.problems(case, url, "key") == ["neither detail nor errors says what is wrong"]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:8317", "http://"])
def test_what_is_no_address_is_an_error_that_names_it(url: str) -> None:
    with pytest.raises(ValueError, match="must be an http or https URL"):
        conformance.run(url, "key", "p")
