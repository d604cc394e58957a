"""Channels in front of real receivers: what arrives, and what becomes of what does not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
from pathlib import Path

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from support.mailbox import mailbox
from support.ports import free_port
from support.raw_server import RawServer, answer, make_certificate, raw_server, server_context

from opentelemetry_guard.backend.alerts.channels import OtelChannel, SmtpChannel, WebhookChannel
from opentelemetry_guard.backend.alerts.notice import Notice, decoded, encoded, example_notice
from opentelemetry_guard.backend.alerts.sending import LONGEST_PAUSE, POLICY, Channel, Failure

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
NOTICE = Notice(
    "0198a5b8-0000-7000-8000-000000000001", "burst", "events", "high", "shop", "", "24 events in 5 min", 24,
    1_800_000_000.0, alert=3, more=2, link="https://guard.example.com/alerts/3?project=shop",
)  # fmt: skip
TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"


def hook(url: str, **fields: object) -> WebhookChannel:
    return WebhookChannel.model_validate({"type": "webhook", "url": url, "secret": SECRET, "timeout": 20, **fields})


def mail(port: int, **fields: object) -> SmtpChannel:
    given = {"type": "smtp", "host": "127.0.0.1", "port": port, "security": "none", "sender": "guard@example.com"}
    return SmtpChannel.model_validate({**given, "recipients": ["ops@example.com", "soc@example.com"], **fields})


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def largest(low: float, high: float) -> float:
    return high


def refusal(settings: WebhookChannel | SmtpChannel | OtelChannel) -> Failure:
    failure = Channel(settings).send(NOTICE, 0)
    assert failure is not None
    return failure


def parts(request: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


def test_a_webhook_is_a_signed_post_of_json() -> None:
    with raw_server(answer(TAKEN)) as server:
        assert Channel(hook(f"http://127.0.0.1:{server.port}/hooks/s3cr3t?a=b")).send(NOTICE, 0) is None
    first, headers, body = parts(server.requests[0])
    assert first == "POST /hooks/s3cr3t?a=b HTTP/1.1"
    assert (headers["content-type"], headers["webhook-id"]) == ("application/json", NOTICE.id)
    signed = f"{NOTICE.id}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    told = json.loads(body)
    assert (told["type"], told["timestamp"]) == ("guard.alert", "2027-01-15T08:00:00Z")
    assert told["text"] == "[Guard] high: burst (shop)"
    assert told["data"] == {
        "id": NOTICE.id, "rule": "burst", "when": "events", "severity": "high", "project": "shop", "subject": "",
        "text": "24 events in 5 min", "count": 24, "alert": 3, "more": 2, "link": NOTICE.link, "test": False,
    }  # fmt: skip


def test_a_redirect_is_not_followed() -> None:
    with raw_server(answer(TAKEN)) as elsewhere:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:{elsewhere.port}/\r\nContent-Length: 0\r\n\r\n"
        with raw_server(answer(moved.encode())) as server:
            failure = refusal(hook(f"http://127.0.0.1:{server.port}/"))
        assert failure.reason == "the receiver answered 307: redirects are not followed"
        assert elsewhere.requests == []


@pytest.mark.parametrize("status", [400, 401, 404, 410, 500, 503])
def test_whatever_is_no_success_is_tried_again(status: int) -> None:
    with raw_server(answer(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())) as server:
        failure = refusal(hook(f"http://127.0.0.1:{server.port}/"))
    assert failure.reason == f"the receiver answered {status}"


def test_a_receiver_that_asks_for_time_gets_it() -> None:
    with raw_server(answer(b"HTTP/1.1 429 Slow\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n")) as server:
        clock = Clock()
        channel = Channel(hook(f"http://127.0.0.1:{server.port}/"), clock, largest)
        failure = channel.send(NOTICE, 0)
        assert failure is not None
        assert failure.pause == 60
        clock.now += 59
        assert not channel.is_ready()
        clock.now += 1
        assert channel.is_ready()


def test_a_receiver_that_is_gone_is_asked_ever_less_and_found_again() -> None:
    port = free_port()
    clock = Clock()
    channel = Channel(hook(f"http://127.0.0.1:{port}/"), clock, largest)
    pauses, failures = [], 0
    while len(pauses) < 12:
        failure = channel.send(NOTICE, failures)
        assert failure is not None
        assert 0 < failure.pause <= LONGEST_PAUSE
        failures += 1
        began = clock.now
        while not channel.is_ready():
            clock.now += 1
        pauses.append(clock.now - began)
    assert pauses[: POLICY.failures + 3] == [2, 4, 10, 20, 40, 80]
    assert max(pauses) == pauses[-1] == POLICY.max_recovery
    with raw_server(answer(TAKEN), port=port) as server:
        assert channel.send(NOTICE, failures) is None
        assert channel.is_ready()
        assert len(server.requests) == 1


def test_no_failure_repeats_the_secret_or_the_path() -> None:
    port = free_port()
    gone = refusal(hook(f"http://127.0.0.1:{port}/services/T0/s3cr3t?token=s3cr3t")).reason
    assert "s3cr3t" not in gone
    assert "refused" in gone


def test_an_answer_that_drips_ends_at_the_deadline() -> None:
    def drip(server: RawServer, connection: socket.socket) -> bool:
        server.drip(connection, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000)
        return False

    with raw_server(drip) as server:
        failure = refusal(hook(f"http://127.0.0.1:{server.port}/", timeout=0.3))
    assert "deadline" in failure.reason or "timed out" in failure.reason


def test_a_certificate_is_checked_and_one_of_ones_own_can_be_trusted(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    with raw_server(answer(TAKEN), server_context(certificate, key)) as server:
        url = f"https://127.0.0.1:{server.port}/"
        assert "certificate" in refusal(hook(url)).reason.lower()
        assert Channel(hook(url, ca_file=certificate)).send(NOTICE, 0) is None


def test_a_mail_arrives_with_its_words() -> None:
    with mailbox() as box:
        assert Channel(mail(box.port)).send(NOTICE, 0) is None
    (got,) = box.mails
    assert (got["Subject"], got["From"]) == ("[Guard] high: burst (shop)", "guard@example.com")
    assert box.recipients == [["ops@example.com", "soc@example.com"]]
    assert got["Message-ID"] == f"<{NOTICE.id}@example.com>"
    assert got.get_content().splitlines() == [
        "24 events in 5 min", "", "Rule: burst", "Severity: high", "Project: shop", "Since: 2027-01-15 08:00:00 UTC",
        "",
        "2 more alerts of this rule were not told: it is bounded by the hour.", "", NOTICE.link,
    ]  # fmt: skip


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_goes_encrypted_to_a_server_that_wants_a_login(security: str, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = server_context(certificate, key)
    login = {"username": "guard", "password": "right password", "security": security, "ca_file": certificate}
    with mailbox(login=True, **{security: context}) as box:
        assert Channel(mail(box.port, **login)).send(NOTICE, 0) is None
        assert (box.encrypted, box.logins) == ([True], [(b"guard", b"right password")])
        wrong = refusal(mail(box.port, **{**login, "password": "wrong password"})).reason
        assert "535" in wrong
        assert "wrong password" not in wrong


def test_no_password_is_sent_to_a_server_without_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    login = {"username": "guard", "password": "right password", "security": "starttls"}
    with mailbox(login=True, starttls=server_context(certificate, key)) as box:
        assert "certificate" in refusal(mail(box.port, **login)).reason.lower()
    with mailbox() as plain:
        assert "STARTTLS" in refusal(mail(plain.port, **login)).reason
    assert box.logins == plain.logins == []


def test_a_mail_that_the_server_defers_is_tried_again() -> None:
    with mailbox() as box:
        box.answers.append("451 later")
        channel = Channel(mail(box.port), Clock(), largest)
        failure = channel.send(NOTICE, 0)
        assert failure is not None
        assert "451" in failure.reason
        assert channel.send(NOTICE, 1) is None
    assert len(box.mails) == 1


def test_one_refused_recipient_keeps_the_mail_from_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    with mailbox() as box, caplog.at_level(logging.WARNING):
        box.refused.add("soc@example.com")
        assert Channel(mail(box.port)).send(NOTICE, 0) is None
        box.refused.add("ops@example.com")
        assert "550" in refusal(mail(box.port)).reason
    assert box.recipients == [["ops@example.com"]]
    assert "soc@example.com" in caplog.text


def test_a_mail_server_that_drips_ends_at_the_deadline() -> None:
    def drip(server: RawServer, connection: socket.socket) -> bool:
        server.drip(connection, b"2" * 100_000)
        return False

    with raw_server(drip, greets=True) as server:
        failure = refusal(mail(server.port, timeout=0.3))
    assert "deadline" in failure.reason or "timed out" in failure.reason


def test_a_log_record_is_emitted_where_an_sdk_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no OpenTelemetry SDK" in refusal(OtelChannel(type="otel")).reason
    exporter, provider = InMemoryLogRecordExporter(), LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr("opentelemetry_guard.backend.alerts.log_record.get_logger_provider", lambda: provider)
    assert Channel(OtelChannel(type="otel")).send(NOTICE, 0) is None
    (record,) = [one.log_record for one in exporter.get_finished_logs()]
    assert (record.event_name, record.severity_text, record.body) == ("guard.alert", "ERROR", "24 events in 5 min")
    attributes = dict(record.attributes or {})
    assert attributes["guard.alert.rule"] == "burst"
    assert attributes["guard.alert.more"] == 2
    assert record.timestamp == 1_800_000_000 * 10**9


def test_a_notice_is_kept_as_it_is() -> None:
    for notice in (NOTICE, example_notice(5.0)):
        assert decoded(encoded(notice)) == notice
