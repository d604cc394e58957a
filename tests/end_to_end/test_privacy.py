"""Planted secrets: none is in any byte that a backend or an OTLP receiver gets, nor in the queue's files."""

from __future__ import annotations

import gzip
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from support.application import RunningApplication, running_application

from opentelemetry_guard.models import EventBatch

PASSWORD_IN_QUERY = "pw-query-81xQz"
PASSWORD_IN_BODY = "pw-body-82xQz"
AUTHORIZATION = "auth-83xQz"
COOKIE = "cookie-84xQz"
SET_COOKIE = "setcookie-85xQz"
API_KEY = "a84f9c1e77d24b0f9a6e3c5d12b8f047"
CARD = "5555 5555 5555 4444"
TOKEN = "token-86xQz"
CONTENT = "content-87xQz"
SECRETS = (PASSWORD_IN_QUERY, PASSWORD_IN_BODY, AUTHORIZATION, COOKIE, SET_COOKIE, API_KEY, CARD, TOKEN)
ATTACK = f"<script>alert('{CONTENT}')</script>"

CARELESS = {
    "OTEL_TRACES_EXPORTER": "guard,otlp",
    "OTEL_LOGS_EXPORTER": "guard,otlp",
    "OTEL_METRICS_EXPORTER": "guard,otlp",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http/dup",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": ".*",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE": ".*",
    "OTEL_EXPORTER_GUARD_API_KEY": "the-key-of-the-exporter",
    "OTEL_EXPORTER_GUARD_FLEET_SIZE": "1",
    "OTEL_BLRP_SCHEDULE_DELAY": "100",
    "OTEL_BSP_SCHEDULE_DELAY": "100",
}

EVENT_TYPES = {"authentication_failed", "penetration_attempt", "user_agent_blocked"}


class Receiver:
    """A Guard backend that refuses everything, and an OTLP receiver: what each was sent, uncompressed."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[tuple[str, bytes]] = []
        self._changed = threading.Condition()

    def receive(self, path: str, body: bytes) -> int:
        """Keep a body; return the status of the answer."""
        if body.startswith(b"\x1f\x8b"):
            body = gzip.decompress(body)
        with self._changed:
            self.received.append((path, body))
            self._changed.notify_all()
        return 503 if path.startswith("/api/") else 200

    def bodies(self, prefix: str) -> list[bytes]:
        """Return what was sent to paths that begin so."""
        return [body for path, body in self.received if path.startswith(prefix)]

    def wait_for(self, prefix: str, text: bytes) -> None:
        """Return when a body with `text` has arrived."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(text in body for body in self.bodies(prefix)), 30), prefix


@contextmanager
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.send_response(made.receive(self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send_secrets(application: RunningApplication) -> None:
    """Make the requests of a careless client and of an attacker."""
    http, url = application.http, application.url
    http.headers.update(
        {
            "X-Forwarded-For": "198.51.100.7",
            "Authorization": f"Bearer {AUTHORIZATION}",
            "Cookie": f"theme=dark; session={COOKIE}",
            "X-Card": CARD,
        }
    )
    credentials = {"user": "eve", "password": PASSWORD_IN_BODY}
    query = {"password": PASSWORD_IN_QUERY}
    http.post(f"{url}/login", params=query, json=credentials)
    http.post(f"{url}/login", params=query, data=credentials)
    http.post(f"{url}/login", params=query, files={"password": (None, PASSWORD_IN_BODY)})
    http.get(f"{url}/keys/{API_KEY}", params={**query, "q": ATTACK})
    http.get(f"{url}/keys/{API_KEY}", headers={"User-Agent": f"evilbot token={TOKEN}"})
    http.get(f"{url}/keys/{API_KEY}", headers={"X-Note": ATTACK, "Referer": f"https://example.com/?token={TOKEN}"})
    http.post(f"{url}/login", json={"password": f"{PASSWORD_IN_BODY}{ATTACK}", "note": ATTACK})
    http.get(f"{url}/keys/{API_KEY}", params={ATTACK: "1"})
    http.get(f"{url}/nowhere/{API_KEY}/x", params=query)
    http.get(f"{url}/fail", params={"token": TOKEN})


def stored(directory: Path) -> bytes:
    """Return everything that the queue's files hold, as it is and with the bodies uncompressed."""
    parts = [file.read_bytes() for file in directory.iterdir()]
    for file in directory.glob("*.db"):
        with closing(sqlite3.connect(file)) as database:
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in database.execute(f'SELECT * FROM "{table}"').fetchall():
                    for value in row:
                        raw = value if isinstance(value, bytes) else str(value).encode()
                        parts.append(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)
    return b"\n".join(parts)


def leaks(data: bytes, secrets: tuple[str, ...]) -> list[str]:
    forms = {
        form: secret for secret in secrets for form in (secret, secret.replace(" ", "%20"), secret.replace(" ", "+"))
    }
    return sorted({f"{secret}: …{found(data, form)}…" for form, secret in forms.items() if form.encode() in data})


def found(data: bytes, text: str) -> str:
    position = data.index(text.encode())
    return data[max(0, position - 80) : position + 40].decode(errors="replace")


def test_no_planted_secret_is_in_any_byte_that_leaves_the_application_or_waits_in_its_queue(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    with receiver() as other_end:
        settings = {
            **CARELESS,
            "OTEL_EXPORTER_GUARD_ENDPOINT": other_end.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": other_end.url,
            "OTEL_EXPORTER_GUARD_QUEUE_URL": f"sqlite://{queue}/guard.db",
        }
        with running_application("support.leaky_app:app", settings) as application:
            send_secrets(application)
            # They may go in several requests.
            for event_type in EVENT_TYPES:
                other_end.wait_for("/api/v1/events", event_type.encode())
                other_end.wait_for("/v1/logs", event_type.encode())
            other_end.wait_for("/v1/traces", b"RuntimeError")
            application.stop()

    backend = b"\n".join(other_end.bodies("/api/"))
    otlp = b"\n".join(other_end.bodies("/v1/"))
    waiting = stored(queue)

    # What was sent is what was to be examined: the events, metrics and spans are there, and something is masked.
    event_types = {
        event.event_type
        for body in other_end.bodies("/api/v1/events")
        for event in EventBatch.model_validate_json(body).events
    }
    assert event_types >= EVENT_TYPES
    assert b"threat_level" in waiting
    assert b"penetration_attempt" in waiting
    assert b"http.request.header.x_card" in otlp
    assert b"http.response.header.set_cookie" in otlp
    assert all(b"[REDACTED]" in data for data in (backend, otlp, waiting))

    assert leaks(backend, (*SECRETS, CONTENT)) == []
    assert leaks(waiting, (*SECRETS, CONTENT)) == []
    assert leaks(otlp, SECRETS) == []
