"""A strict server with the hosted platform's limits, in a process of its own: ``python -m support.platform_server``.

It takes a JSON document of `Platform`'s limits as its argument, prints its port as one JSON line, and answers each line
on standard input with its counts. It ends when its standard input does.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import threading
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson

from .guard_platform import Platform
from .guard_server import Answer, Json

SEED = 3


class StrictPlatform(Platform):
    """Counts what breaks the contract, and refuses a share of the requests for `busy` with Retry-After."""

    def __init__(self, busy: float = 0.0, **limits: int) -> None:
        super().__init__(**limits)  # type: ignore[arg-type]
        self._busy = busy
        self._chance = random.Random(SEED)
        self._lock = threading.Lock()
        self._answers: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def receive(self, headers: dict[str, str], raw: bytes) -> Answer:
        """Answer one request."""
        if "content-length" not in headers:
            return self._count(Answer(411), len(raw))
        try:
            body = gzip.decompress(raw) if headers.get("content-encoding") == "gzip" else raw
        except (OSError, EOFError, zlib.error):
            return self._count(Answer(400, b"broken gzip"), len(raw))
        try:
            document = orjson.loads(body) if len(body) <= self.max_body else {}
        except ValueError:
            return self._count(Answer(400, b"no JSON"), len(body))
        with self._lock:
            if self._chance.random() < self._busy:
                status = self._chance.choice((429, 503))
                return self._count(Answer(status, b'{"detail": "busy"}', {"Retry-After": "1"}), len(body))
            return self._count(self(body, document), len(body))

    def _count(self, answer: Answer, size: int) -> Answer:
        self._answers[str(answer.status)] += 1
        self._bytes[str(answer.status)] += size
        return answer

    def summary(self) -> Json:
        """Return all counts; `bytes` are those of decompressed bodies by status."""
        with self._lock:
            events = {key: times for key, times in self.kept.items() if key != "metrics"}
            return {
                "kept": sum(events.values()),
                "twice": sum(events.values()) - len(events),
                "dropped": self.dropped,
                "answers": dict(self._answers),
                "bytes": dict(self._bytes),
                "largest": max(self.sizes, default=0),
            }


def main(limits: Json) -> None:
    """Serve until standard input ends."""
    platform = StrictPlatform(**limits)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = Answer() if self.path.endswith("/status") else platform.receive(headers, raw)
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(platform.summary()), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
