"""One request of ours: what it carries, and that nothing it carries goes anywhere else."""

from __future__ import annotations

import gzip
import json
import logging
import os
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Callable
from html import escape
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import serialization
from support.raw_server import OK, RawServer, answer, make_certificate, raw_server, server_context

from opentelemetry_guard.delivery.outcome import Outcome, Verdict
from opentelemetry_guard.delivery.transport import HTTPTransport, signature
from opentelemetry_guard.models import AgentStatus
from opentelemetry_guard.queue.base import Batch
from opentelemetry_guard.settings.delivery import GuardConfig
from opentelemetry_guard.version import __version__

KEY = "sk-very-secret-key"
BATCH = Batch("b", "events", 1, b'{"events":[]}')


def transport(server: RawServer, scheme: str = "http", **settings: object) -> HTTPTransport:
    endpoint = f"{scheme}://127.0.0.1:{server.port}"
    config = GuardConfig.resolve({}, **{"endpoint": endpoint, "api_key": KEY, "timeout": 10.0, **settings})
    return HTTPTransport(config, lambda: "11111111-2222-3333-4444-555555555555")


def head(request: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    pairs = [line.split(": ", 1) for line in lines]
    headers = {name.lower(): value for name, value in pairs}
    assert len(headers) == len(pairs), "a header was sent twice"
    return first, headers


def test_the_headers_are_the_contracts() -> None:
    with raw_server(answer()) as server:
        transport(server, project_id="p-1").send(BATCH)
    first, headers = head(server.requests[0])
    assert first == "POST /api/v1/events HTTP/1.1"
    assert headers["user-agent"] == f"opentelemetry-guard/{__version__}"
    assert headers["content-type"] == "application/json"
    assert headers["x-api-key"] == KEY
    assert headers["x-project-id"] == "p-1"
    assert headers["x-agent-install-id"] == "11111111-2222-3333-4444-555555555555"
    assert headers["content-length"] == str(len(BATCH.body))
    assert "gzip" in headers["accept-encoding"]
    for absent in ("content-encoding", "authorization", "x-payload-signature", "cookie"):
        assert absent not in headers


def test_without_a_project_there_is_no_project_header() -> None:
    with raw_server(answer()) as server:
        transport(server).send(BATCH)
    assert "x-project-id" not in head(server.requests[0])[1]


def test_metrics_have_a_path_of_their_own_and_compression_is_named() -> None:
    with raw_server(answer()) as server:
        transport(server).send(Batch("b", "metrics", 1, gzip.compress(b"{}"), "gzip"))
    first, headers = head(server.requests[0])
    assert first == "POST /api/v1/metrics HTTP/1.1"
    assert headers["content-encoding"] == "gzip"


def test_ones_own_headers_are_sent_and_take_the_place_of_none_of_ours() -> None:
    with raw_server(answer()) as server:
        transport(server, headers={"X-Tenant": "t", "x-api-key": "another", "authorization": "Bearer t"}).send(BATCH)
    _, headers = head(server.requests[0])
    assert headers["x-tenant"] == "t"
    assert headers["authorization"] == "Bearer t"
    assert headers["x-api-key"] == KEY


def test_credentials_of_a_netrc_file_are_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other-secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with raw_server(answer()) as server:
        transport(server).send(BATCH)
    assert "authorization" not in head(server.requests[0])[1]


def test_without_a_key_nothing_is_sent() -> None:
    with raw_server(answer()) as server:
        outcome = transport(server, api_key=None).send(BATCH)
    assert outcome.verdict is Verdict.MISCONFIGURED
    assert "API key" in outcome.reason
    assert not server.requests


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(status: int) -> None:
    with raw_server(answer()) as elsewhere:
        location = f"http://127.0.0.1:{elsewhere.port}/api/v1/events"
        data = f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        with raw_server(answer(data)) as server:
            outcome = transport(server).send(BATCH)
    assert outcome.verdict is Verdict.MISCONFIGURED
    assert location in outcome.reason
    assert not elsewhere.connections


def test_a_gzip_answer_is_read() -> None:
    body = gzip.compress(b'{"success": false, "errors": ["row 1"]}')
    data = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with raw_server(answer(data)) as server:
        outcome = transport(server).send(BATCH)
    assert outcome.verdict is Verdict.PARTIAL
    assert "row 1" in outcome.reason


def test_damaged_compression_of_an_answer_is_a_failure_to_retry() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nnoise"
    with raw_server(answer(data)) as server:
        assert transport(server).send(BATCH).verdict is Verdict.RETRY


def test_a_gzip_answer_of_several_members_is_read_whole() -> None:
    body = gzip.compress(b'{"success": ') + gzip.compress(b"false}")
    data = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with raw_server(answer(data)) as server:
        sender = transport(server)
        assert [sender.send(BATCH).verdict for _ in range(2)] == [Verdict.PARTIAL] * 2
        assert server.connections == 1


def test_a_gzip_answer_that_ends_early_is_a_failure_to_retry() -> None:
    body = gzip.compress(b'{"success": true}')[:-6]
    data = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with raw_server(answer(data)) as server:
        assert transport(server).send(BATCH).verdict is Verdict.RETRY


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip"])
def test_an_encoding_that_was_not_asked_for_is_a_failure_to_retry(encoding: str) -> None:
    data = f'HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: 16\r\n\r\n{{"success":true}}'.encode()
    with raw_server(answer(data)) as server:
        outcome = transport(server).send(BATCH)
    assert outcome.verdict is Verdict.RETRY
    assert encoding in outcome.reason


def bomb(mebibytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(bytes(1024**2)) for _ in range(mebibytes)), packer.flush()])


@pytest.mark.parametrize("status", [200, 302, 401, 404, 422, 503])
@pytest.mark.parametrize("call", ["send", "status", "rules"])
def test_a_small_answer_that_decompresses_to_a_large_one_is_cut(
    status: int, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opentelemetry_guard.delivery.transport.MAX_RULES", 1024**2)
    body = bomb(60)
    data = (
        f"HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with raw_server(answer(data.encode() + body)) as server:
        made = transport(server)
        tracemalloc.start()
        try:
            if call == "send":
                made.send(BATCH)
            elif call == "status":
                made.send_status(AgentStatus(status="healthy", uptime=1.0))
            else:
                made.fetch_rules(None)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(server.requests) == 1
    assert peak < 20 * 1024**2


def test_a_long_list_of_errors_is_read_whole() -> None:
    body = b'{"errors": [' + b",".join(b'"row %d is bad for a reason that takes many words"' % n for n in range(4000))
    body += b"]}"
    data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with raw_server(answer(data)) as server:
        assert transport(server).send(BATCH).verdict is Verdict.PARTIAL


def test_an_endless_answer_is_cut() -> None:
    def endless(server: RawServer, connection: socket.socket) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not server.closing.is_set():
            connection.sendall(b"x" * 65536)
        return False

    with raw_server(endless) as server:
        outcome = transport(server).send(BATCH)
    assert outcome.verdict is Verdict.RETRY
    assert not outcome.timed_out


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x16\x03\x01",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
)
def test_whatever_comes_back_is_an_outcome_and_never_an_error(data: bytes) -> None:
    with raw_server(answer(data, keep=False)) as server:
        assert transport(server).send(BATCH).verdict is Verdict.RETRY


def test_a_refused_connection_is_a_failure_to_retry() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = RawServer(listener.getsockname()[1])
    outcome = transport(server).send(BATCH)
    assert (outcome.verdict, outcome.status, outcome.timed_out) == (Verdict.RETRY, 0, False)
    assert "refused" in outcome.reason


def test_a_kept_connection_that_the_server_has_closed_is_opened_again() -> None:
    closed = threading.Event()

    def answer_and_close(server: RawServer, connection: socket.socket) -> bool:
        connection.sendall(OK)
        connection.close()
        closed.set()
        return False

    with raw_server(answer_and_close) as server:
        sender = transport(server)
        assert sender.send(BATCH).verdict is Verdict.ACCEPTED
        assert closed.wait(10)
        assert sender.send(BATCH).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("status", [200, 301, 401, 403, 422, 500])
def test_a_key_that_the_backend_quotes_is_not_in_the_outcome(status: int) -> None:
    body = f'{{"errors": ["the key {KEY} is no good, nor is other-secret"]}}'.encode()
    data = f"HTTP/1.1 {status} X\r\nLocation: http://x/?key={KEY}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with raw_server(answer(data + body)) as server:
        outcome = transport(server, headers={"authorization": "other-secret"}).send(BATCH)
    assert KEY not in repr(outcome)
    assert "other-secret" not in repr(outcome)
    assert "***" in outcome.reason


def test_no_log_of_any_level_holds_the_key(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), raw_server(answer(b"nonsense", keep=False)) as server:
        transport(server).send(BATCH)
    assert KEY not in caplog.text


def test_a_certificate_of_ones_own_is_trusted(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    with raw_server(answer(), server_context(certificate, key)) as server:
        assert transport(server, "https").send(BATCH).verdict is Verdict.RETRY
        assert transport(server, "https", certificate=str(certificate)).send(BATCH).verdict is Verdict.ACCEPTED


def test_the_setting_rules_over_the_environments_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = make_certificate(tmp_path)
    other, _ = make_certificate(tmp_path, "other")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    with raw_server(answer(), server_context(certificate, key)) as server:
        assert transport(server, "https", certificate=str(certificate)).send(BATCH).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_environments_certificates_are_trusted_where_there_is_no_setting(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path)
    with raw_server(answer(), server_context(certificate, key)) as server:
        assert transport(server, "https").send(BATCH).verdict is Verdict.RETRY
        monkeypatch.setenv(variable, str(certificate))
        assert transport(server, "https").send(BATCH).verdict is Verdict.ACCEPTED


def test_what_only_certifi_trusts_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = make_certificate(tmp_path)
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(certificate))
    monkeypatch.setattr("certifi.where", lambda: str(certificate))
    with raw_server(answer(), server_context(certificate, key)) as server:
        outcome = transport(server, "https").send(BATCH)
    assert outcome.verdict is Verdict.RETRY
    assert "certificate verify failed" in outcome.reason


def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    with raw_server(answer(), server_context(certificate, key)) as server:
        config = GuardConfig.resolve(
            {}, endpoint=f"https://localhost:{server.port}", api_key=KEY, timeout=10.0, certificate=str(certificate)
        )
        outcome = HTTPTransport(config, lambda: "id").send(BATCH)
    assert outcome.verdict is Verdict.RETRY
    assert "localhost" in outcome.reason


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_variable_that_names_no_certificates_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "/nowhere/ca.pem")
    with raw_server(answer()) as server:
        outcome = transport(server, "https").send(BATCH)
    assert outcome.verdict is Verdict.RETRY
    assert variable in outcome.reason
    assert "/nowhere/ca.pem" in outcome.reason


def test_a_certificate_that_is_renewed_on_disk_comes_into_force(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(make_certificate(tmp_path, "other")[0].read_bytes())
    with raw_server(answer(), server_context(certificate, key)) as server:
        sender = transport(server, "https", certificate=str(trusted))
        assert sender.send(BATCH).verdict is Verdict.RETRY
        trusted.write_bytes(certificate.read_bytes())
        assert sender.send(BATCH).verdict is Verdict.ACCEPTED


def test_an_encrypted_key_is_an_error_and_no_question_at_the_terminal(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with raw_server(answer()) as server:
        pair = {"client_certificate": str(certificate), "client_key": str(key)}
        outcome = transport(server, "https", certificate=str(certificate), **pair).send(BATCH)
    assert "OTEL_EXPORTER_GUARD_CLIENT_KEY" in outcome.reason


def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    client, client_key = make_certificate(tmp_path, "client")
    both = tmp_path / "both.pem"
    both.write_bytes(client.read_bytes() + client_key.read_bytes())
    with raw_server(answer(), server_context(certificate, key, client)) as server:
        trusted = {"certificate": str(certificate)}
        assert transport(server, "https", **trusted).send(BATCH).verdict is Verdict.RETRY
        pair = {"client_certificate": str(client), "client_key": str(client_key)}
        assert transport(server, "https", **trusted, **pair).send(BATCH).verdict is Verdict.ACCEPTED
        alone = {"client_certificate": str(both)}
        assert transport(server, "https", **trusted, **alone).send(BATCH).verdict is Verdict.ACCEPTED
    assert "client" in repr(server.peers[-1])


def test_closing_ends_the_connection_and_a_later_request_opens_another() -> None:
    with raw_server(answer()) as server:
        sender = transport(server)
        sender.send(BATCH)
        sender.close()
        sender.close()
        assert sender.send(BATCH).verdict is Verdict.ACCEPTED
        assert server.connections == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_uses_a_connection_of_its_own() -> None:
    with raw_server(answer(OK)) as server:
        sender = transport(server)
        sender.send(BATCH)
        pid = os.fork()
        if pid == 0:
            os._exit(0 if sender.send(BATCH).verdict is Verdict.ACCEPTED else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert sender.send(BATCH).verdict is Verdict.ACCEPTED
        assert server.connections == 2


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_a_status_is_posted_with_the_contracts_headers_and_a_signature() -> None:
    status = AgentStatus(status="healthy", uptime=1.5)
    with raw_server(answer()) as server:
        assert transport(server, signing_secret="s3cret").send_status(status).verdict is Verdict.ACCEPTED
    first, headers = head(server.requests[0])
    body = server.requests[0].partition(b"\r\n\r\n")[2]
    assert first == "POST /api/v1/status HTTP/1.1"
    assert headers["content-type"] == "application/json"
    assert headers["x-api-key"] == KEY
    assert headers["x-payload-signature"] == signature("s3cret", body)
    assert AgentStatus.model_validate_json(body, strict=True) == status


def test_rules_are_asked_for_with_the_tag_of_those_that_are_known() -> None:
    document = b'{"rule_id": "r", "version": 2}'
    with raw_server(answer(http("200 OK", document, 'ETag: "two"'))) as server:
        made = transport(server, project_id="p-1")
        answered = made.fetch_rules(None)
        made.fetch_rules(answered.etag)
    assert (answered.document, answered.etag) == (document, '"two"')
    (first, headers), (_, again) = map(head, server.requests)
    assert first == "GET /api/v1/rules HTTP/1.1"
    assert headers["x-project-id"] == "p-1"
    assert headers["x-agent-install-id"] == "11111111-2222-3333-4444-555555555555"
    assert "if-none-match" not in headers
    assert "content-type" not in headers
    assert again["if-none-match"] == '"two"'


@pytest.mark.parametrize(
    "data",
    [http("204 No Content"), http("304 Not Modified"), http("404 Not Found", b"x"), http("200 OK", b"{}")],
)
def test_no_rules_and_unchanged_rules_are_no_document_and_no_failure(data: bytes) -> None:
    with raw_server(answer(data)) as server:
        answered = transport(server).fetch_rules(None)
    assert (answered.outcome.verdict, answered.document) == (Verdict.ACCEPTED, None)


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (http("503 Busy", b"later", "Retry-After: 7"), Verdict.RETRY),
        (http("200 OK", b"<html>log in</html>"), Verdict.RETRY),
        (http("401 Unauthorized", b"unknown key " + KEY.encode()), Verdict.MISCONFIGURED),
        (http("302 Found", b"", "Location: http://127.0.0.1:1/"), Verdict.MISCONFIGURED),
    ],
)
def test_what_goes_wrong_with_rules_and_status_is_an_outcome_without_secrets(data: bytes, verdict: Verdict) -> None:
    with raw_server(answer(data)) as server:
        made = transport(server)
        answered = made.fetch_rules(None)
        reported = made.send_status(AgentStatus(status="healthy", uptime=1.0))
    assert answered.document is None
    assert answered.outcome.verdict is reported.verdict is verdict
    assert KEY not in answered.outcome.reason + reported.reason
    assert len(server.requests) == 2


def test_without_a_key_nobody_is_asked() -> None:
    with raw_server(answer()) as server:
        made = transport(server, api_key=None)
        asked: list[Outcome] = [
            made.fetch_rules(None).outcome,
            made.send_status(AgentStatus(status="healthy", uptime=0)),
        ]
    assert {outcome.verdict for outcome in asked} == {Verdict.MISCONFIGURED}
    assert server.requests == []


def test_rules_for_very_many_addresses_are_read_whole() -> None:
    addresses = b",".join(b'"10.%d.%d.%d"' % (n >> 16, n >> 8 & 255, n & 255) for n in range(200_000))
    document = b'{"ip_blacklist": [' + addresses + b"]}"
    with raw_server(answer(http("200 OK", document))) as server:
        assert transport(server).fetch_rules(None).document == document


def test_rules_beyond_every_bound_are_said_to_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opentelemetry_guard.delivery.transport.MAX_RULES", 1024**2)
    with raw_server(answer(http("200 OK", b'{"message": "' + b"x" * 1024**2 + b'"}'))) as server:
        answered = transport(server).fetch_rules(None)
    assert answered.document is None
    assert answered.outcome.text == "200 the document is larger than 1 MiB"


def test_a_call_for_rules_ends_by_its_deadline() -> None:
    def hang(server: RawServer, connection: socket.socket) -> bool:
        server.closing.wait(60)
        return False

    with raw_server(hang) as server:
        outcome = transport(server).fetch_rules(None, timeout=0.2).outcome
        server.closing.set()
    assert (outcome.verdict, outcome.timed_out) == (Verdict.RETRY, True)


@pytest.mark.parametrize("status", [200, 302, 401, 404, 422, 503])
@pytest.mark.parametrize("spelled", [str, lambda key: json.dumps(key)[1:-1], lambda key: quote(key, safe=""), escape])
def test_no_part_of_a_key_is_shown_where_an_answer_that_quotes_it_is_cut(
    status: int, spelled: Callable[[str], str]
) -> None:
    key = "gk-Zx81qT/9f8e7d6c&5b4a"
    for before in (0, 40, 100, 110, 180, 190, 199, 300, 480, 485, 495, 1985):
        for blank in ("x", " "):
            body = f"{blank * before}{spelled(key)} is no good".encode()
            data = (
                f"HTTP/1.1 {status} X\r\nLocation: /{'y' * before}{spelled(key)}\r\n"
                f"Server: {'z' * 50}{spelled(key)}\r\nContent-Length: {len(body)}\r\n\r\n"
            ).encode()
            with raw_server(answer(data + body)) as server:
                reason = transport(server, api_key=key).send(BATCH).reason
            assert "gk-Z" not in reason
            assert "9f8e" not in reason
