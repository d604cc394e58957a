"""What our instrumentation adds to a request's latency: two real uvicorn processes, asked in turn.

Both run under ``opentelemetry-instrument`` with the FastAPI instrumentation
and with our exporters; in one of them ours is switched off by
``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS``. Takes about 20 seconds.
"""

from __future__ import annotations

import http.client
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fastapi

ROUNDS = 30
REQUESTS = 60
"""Requests of one kind to one process in a round."""

PATHS = {"benign (200)": "/items/7", "blocked (403)": "/private"}

app = fastapi.FastAPI()


@app.get("/items/{number}")
async def item(number: int) -> dict[str, int]:
    return {"item": number}


@app.get("/private")
async def private() -> None:
    raise fastapi.HTTPException(403)


def main() -> None:
    """Print the percentiles of both processes and their ratios."""
    with ExitStack() as stack:
        endpoint = stack.enter_context(_backend())
        off = stack.enter_context(_served(endpoint, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="guard"))
        on = stack.enter_context(_served(endpoint, OTEL_PYTHON_GUARD_TRUSTED_PROXIES="127.0.0.1"))
        taken: dict[str, dict[str, list[float]]] = {kind: {"off": [], "on": []} for kind in PATHS}
        for number in range(ROUNDS):
            for kind, path in PATHS.items():
                for name, port in (("off", off), ("on", on)):
                    seconds = _asked(port, path)
                    taken[kind][name] += seconds if number else []  # the first round warms up
    print("latency of one request, uvicorn and FastAPI instrumentation in both")
    print(f"  {'':<24}{'p50 off':>10}{'p50 on':>10}{'ratio':>8}{'p99 off':>12}{'p99 on':>10}{'ratio':>8}")
    for kind, both in taken.items():
        cells = [f"  {kind:<24}"]
        for share, width in ((0.50, 10), (0.99, 12)):
            without, with_us = (_percentile(both[name], share) * 1e3 for name in ("off", "on"))
            cells.append(f"{without:>{width - 3}.2f} ms{with_us:>7.2f} ms{with_us / without:>6.2f} x")
        print("".join(cells))


def _percentile(seconds: Sequence[float], share: float) -> float:
    return sorted(seconds)[int(len(seconds) * share)]


_clients = itertools.cycle(f"203.0.{number >> 8}.{number & 255}" for number in range(500))


def _asked(port: int, path: str) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    seconds = []
    for _ in range(REQUESTS):
        headers = {"X-Forwarded-For": next(_clients), "User-Agent": "Mozilla/5.0 Firefox/140.0"}
        began = time.perf_counter()
        connection.request("GET", path, headers=headers)
        connection.getresponse().read()
        seconds.append(time.perf_counter() - began)
    connection.close()
    return seconds


@contextmanager
def _backend() -> Iterator[str]:
    """Accept whatever is delivered."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(b'{"success": true}')

        def do_GET(self) -> None:
            self._answer(b"{}")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _served(endpoint: str, **settings: str) -> Iterator[int]:
    """Serve `app` in a process of its own, and yield its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    binaries = Path(sys.executable).parent
    environment: Mapping[str, str] = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
        **dict.fromkeys(("OTEL_TRACES_EXPORTER", "OTEL_LOGS_EXPORTER", "OTEL_METRICS_EXPORTER"), "guard"),
        "OTEL_EXPORTER_GUARD_ENDPOINT": endpoint,
        "OTEL_EXPORTER_GUARD_API_KEY": "benchmark-key",
        "OTEL_EXPORTER_GUARD_PROJECT_ID": "benchmark",
        "OTEL_EXPORTER_GUARD_QUEUE_URL": "memory://",
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        **settings,
    }
    command = [str(binaries / "opentelemetry-instrument"), "uvicorn", "benchmarks.latency:app", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--log-level", "error", "--no-proxy-headers"], env=environment, cwd=Path(__file__).parents[1]
    )
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    pause = threading.Event()
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"the application ended with status {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        pause.wait(0.05)
    raise SystemExit(f"nothing listens on port {port}")


if __name__ == "__main__":
    main()
