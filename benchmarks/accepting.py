"""A backend that keeps up: ``python -m benchmarks.accepting [milliseconds]``, how long each answer takes.

It reads a request, unpacks nothing and takes everything. It prints its port, and for each line on standard input
one with the bodies and bytes that it has taken so far, and the seconds of CPU that this took.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status": "ok"}'
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Backend:
    """The caller's hand on the process."""

    def __init__(self, milliseconds: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.accepting", str(milliseconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def counts(self) -> dict[str, float]:
        """Return ``requests``, ``bytes`` and ``cpu`` (seconds)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        counts: dict[str, float] = json.loads(self._process.stdout.readline())
        return counts

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def accepting(milliseconds: float = 0.0) -> Iterator[Backend]:
    """Run a backend that answers after so long."""
    backend = Backend(milliseconds)
    try:
        yield backend
    finally:
        backend.close()


class _Server:
    """Counts what it takes; `_lock` guards the counts."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._requests = self._bytes = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)

    def run(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def counts(self) -> dict[str, float]:
        with self._lock:
            return {"requests": self._requests, "bytes": self._bytes, "cpu": time.process_time()}

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        while True:
            while (end := data.find(b"\r\n\r\n")) < 0:
                if not (more := connection.recv(1 << 16)):
                    return
                data += more
            found = _LENGTH.search(data, 0, end)
            size = int(found[1]) if found else 0
            left = size - (len(data) - end - 4)
            while left > 0:
                left -= len(connection.recv(min(left, 1 << 18)))
            data = b""
            with self._lock:
                self._requests += 1
                self._bytes += size
            if self._seconds:
                time.sleep(self._seconds)
            connection.sendall(ANSWER)


def main() -> None:
    """Serve until standard input ends."""
    server = _Server(float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0)
    threading.Thread(target=server.run, daemon=True).start()
    print(server.listener.getsockname()[1], flush=True)
    for _ in sys.stdin:
        print(json.dumps(server.counts()), flush=True)


if __name__ == "__main__":
    main()
