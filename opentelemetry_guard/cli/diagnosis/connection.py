"""Whether the backend can be reached, is who it should be, knows our key, and takes an event."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, SSLError

from ...delivery.deadline import connect, set_deadline
from ...delivery.delivery import Delivery
from ...delivery.http import connections_to
from ...delivery.proxies import proxy_of
from ...delivery.trust import CertificateError
from ...delivery.workers import Workers
from ...events.codec import complete, to_row
from ...events.known import TEST_EVENT
from ...queue.base import QueueOptions
from ...queue.memory import MemoryQueue
from ...settings.delivery import PREFIX, GuardConfig
from ...settings.urls import mask_url
from ...version import __version__
from .finding import Finding, ok, problem, warning

ENDPOINT = PREFIX + "ENDPOINT"
_SECONDS = 5.0
"""How long a name, a connection or an answer may take."""
_WORKERS = Workers("OtelGuardDoctor", lambda: None)
"""A name server that is silent is not waited for beyond that."""
_EVENT_SECONDS = 10.0
"""How long the test event may take, whatever the settings allow."""
_SKEW_WARNING, _SKEW_PROBLEM = 30.0, 300.0
"""Seconds that this clock may differ from the backend's."""


def check_connection(config: GuardConfig) -> Iterator[Finding]:
    """Yield what there is to say about the way to the backend, as far as one gets on it."""
    parts = urlsplit(config.endpoint)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if proxy_of(config.endpoint) is not None:
        yield ok(ENDPOINT, f"{host} is reached through a proxy, whose variables are set")
    else:
        reached = _check_address(host, port)
        yield reached
        if reached.level != "ok":
            return
    if parts.scheme == "http" and host not in ("localhost", "127.0.0.1", "::1"):
        yield warning(ENDPOINT, "is plain http: the API key travels readable", f"set {ENDPOINT}=https://{host}")
    yield from _check_answer(config, host)


def _check_address(host: str, port: int) -> Finding:
    try:
        found = _WORKERS.call(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0], _SECONDS)
    except (OSError, UnicodeError) as error:
        silent = isinstance(error, TimeoutError)
        why = f"the name server does not answer within {_SECONDS:.0f} seconds" if silent else str(error)
        return problem(ENDPOINT, f"the host {host} has no address ({why})", f"check the host's name in {ENDPOINT}")
    try:
        set_deadline(_SECONDS)
        connect(host, port).close()
    except OSError as error:
        return problem(
            ENDPOINT,
            f"{host} port {port} can't be reached ({error})",
            f"check host and port in {ENDPOINT}, the firewall, and that the backend runs",
        )
    return ok(ENDPOINT, f"{host} is {found} and takes connections on port {port}")


def _check_answer(config: GuardConfig, host: str) -> Iterator[Finding]:
    headers = {**config.headers, "User-Agent": f"opentelemetry-guard/{__version__}", "X-API-Key": config.api_key or ""}
    if config.project_id:
        headers["X-Project-ID"] = config.project_id

    def get() -> BaseHTTPResponse:
        set_deadline(_SECONDS)
        connections = connections_to(config)
        try:
            response = connections.request("GET", f"{config.endpoint}/api/v1/rules", headers, None)
            response.close()  # its body is not read: what the rules are does not matter here
            return response
        finally:
            connections.close()

    began = time.time()
    try:
        answer = _WORKERS.call(get, _SECONDS)
    except SSLError as error:
        yield _judge_tls(error, host)
        return
    except CertificateError as error:
        yield problem("TLS", str(error), "mend that setting or variable, or unset it")
        return
    except (HTTPError, OSError, ValueError) as error:  # a proxy's name may be none
        late = f"within {_SECONDS:.0f} seconds" if time.time() - began >= _SECONDS else f"({type(error).__name__})"
        yield problem(ENDPOINT, f"gives no answer {late}", f"check {ENDPOINT} and the backend's log")
        return
    if config.endpoint.startswith("https:"):
        yield ok("TLS", f"the certificate is {host}'s")
    yield from _judge_clock(answer.headers.get("Date"), (began + time.time()) / 2)
    yield _judge_key(answer, config)


def _judge_tls(error: BaseException, host: str) -> Finding:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        reason = getattr(cause, "reason", None)
        inner = reason if isinstance(reason, BaseException) else cause.args[0] if cause.args else None
        cause = cause.__cause__ or cause.__context__ or (inner if isinstance(inner, BaseException) else None)
    text = str(getattr(cause, "verify_message", "") or cause or error)
    if "mismatch" in text or "not valid for" in text:
        return problem(
            "TLS",
            f"the certificate is not {host}'s: {text}",
            f"set {ENDPOINT} to a name that the certificate has, or give the backend a certificate for {host}",
        )
    if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text.lower():
        return problem("TLS", f"{host} speaks no TLS on this port", f"check scheme and port in {ENDPOINT}")
    if "expired" in text or "not yet valid" in text:
        return problem("TLS", text, "give the backend a certificate that is valid now, and check this machine's clock")
    return problem(
        "TLS",
        f"the connection is not trusted: {text}",
        f"set {PREFIX}CERTIFICATE to the PEM file of the authority that signed the backend's certificate",
    )


def _judge_clock(date: str | None, now: float) -> Iterator[Finding]:
    try:
        theirs = parsedate_to_datetime(date or "")
    except ValueError:
        return
    if theirs.tzinfo is None:
        theirs = theirs.replace(tzinfo=timezone.utc)
    skew = (datetime.fromtimestamp(now, timezone.utc) - theirs).total_seconds()
    text = f"this machine's clock is {abs(skew):.0f} seconds {'ahead of' if skew > 0 else 'behind'} the backend's"
    remedy = "set the clock of the machine that is wrong, for example with NTP (timedatectl set-ntp true)"
    if abs(skew) >= _SKEW_PROBLEM:
        yield problem("clock", text, remedy)
    elif abs(skew) >= _SKEW_WARNING:
        yield warning("clock", text, remedy)
    else:
        yield ok("clock", "agrees with the backend's")


def _judge_key(answer: BaseHTTPResponse, config: GuardConfig) -> Finding:
    key = PREFIX + "API_KEY"
    status = answer.status
    if not config.api_key:
        return problem(key, "is not set, so nothing is sent", f"set {key}")
    if status in (401, 403):
        return problem(
            key,
            f"is refused by the backend ({status})",
            f"check {key} and {PREFIX}PROJECT_ID: a key belongs to one project",
        )
    if 300 <= status < 400:
        where = mask_url(answer.headers.get("Location", "nowhere")[:120])
        return problem(ENDPOINT, f"redirects to {where}; redirects are never followed", f"set {ENDPOINT} to that host")
    if status == 404:
        return warning(
            ENDPOINT,
            "knows no /api/v1/rules: either there are no rules, or it is not the address of a Guard backend",
            f"check that {ENDPOINT} is the backend's base URL, without a path of its own",
        )
    if status in (200, 204, 304):
        return ok(key, "is accepted")
    return problem(ENDPOINT, f"answers {status}", "see the backend's log; what is sent is kept and tried again")


def check_delivery(config: GuardConfig) -> Iterator[Finding]:
    """Send one event through a delivery of its own, and say what became of it."""
    delivery = Delivery(
        replace(config, status_interval=0.0, event_log=None), MemoryQueue(QueueOptions(f"doctor-{config.destination}"))
    )
    row, _ = to_row(
        {
            "event_type": TEST_EVENT,
            "action_taken": "logged",
            "reason": "opentelemetry-guard doctor",
            "metadata": {"test": True},
        }
    )
    began = time.monotonic()
    delivery.start()
    try:
        delivery.submit("events", [complete(row)])
        delivery.flush(min(config.timeout, _EVENT_SECONDS) + 1.0)
        stats = delivery.stats()
        letters = delivery.queue.dead_letters(1)
    finally:
        delivery.queue.purge()
        delivery.close(1.0)
    if stats.ledger["events"].delivered:
        yield ok("test event", f"was accepted after {(time.monotonic() - began) * 1000:.0f} ms")
    elif letters:
        yield problem(
            "test event",
            f"is refused for good: {letters[0].status} {letters[0].reason[:200]}",
            f"check that {PREFIX}ENDPOINT is a Guard backend's base URL, and that it has the same "
            f"{PREFIX}SIGNING_SECRET and {PREFIX}ENCRYPTION_KEY",
        )
    else:
        remedy = f"check that a Guard backend answers at {PREFIX}ENDPOINT, and see its log"
        why = stats.routes["events"].last_error or "there was no answer in time"
        yield problem("test event", f"was not accepted: {why}", remedy)
