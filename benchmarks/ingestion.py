"""How many events a second the local backend takes: ``python -m benchmarks.ingestion``.

A real server process, its real SQLite file with every batch on the disk before
it is acknowledged, and batches of 100 events over HTTP, packed with gzip. The
bodies are made before the clock runs; the client shares the machine with the server.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from uuid import uuid4

import requests

BATCHES = 300
ROWS = 100
SENDERS = 2
WANTED_EVENTS_PER_SECOND = 2_000


def body() -> bytes:
    """Return one packed batch of events that are as large as an application's."""
    now = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
    events = [
        {
            "idempotency_key": str(uuid4()),
            "timestamp": now,
            "event_type": ("rate_limited", "penetration_attempt", "ip_blocked")[number % 3],
            "ip_address": f"203.0.113.{number}",
            "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "action_taken": "request_blocked",
            "reason": "120 requests in 60 s, 100 are allowed",
            "endpoint": f"/items/{number % 10}",
            "method": "GET",
            "status_code": 429,
            "response_time": 0.0123,
            "metadata": {"trace_id": uuid4().hex, "span_id": uuid4().hex[:16], "service": "shop"},
        }
        for number in range(ROWS)
    ]
    return gzip.compress(json.dumps({"project_id": "bench", "batch_id": str(uuid4()), "events": events}).encode())


def send(url: str, bodies: list[bytes]) -> None:
    """Send `bodies` one after the other, each as often as the backend asks for."""
    headers = {"X-API-Key": "bench-key", "Content-Type": "application/json", "Content-Encoding": "gzip"}
    with requests.Session() as http:
        http.trust_env = False
        for one in bodies:
            http.post(f"{url}/api/v1/events", data=one, headers=headers, timeout=30).raise_for_status()


def measure(url: str) -> float:
    """Return how many events a second the backend at `url` acknowledges."""
    send(url, [body() for _ in range(10)])
    shares = [[body() for _ in range(BATCHES // SENDERS)] for _ in range(SENDERS)]
    senders = [threading.Thread(target=send, args=(url, share)) for share in shares]
    began = time.perf_counter()
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    return sum(map(len, shares)) * ROWS / (time.perf_counter() - began)


def main() -> None:
    """Start a backend, measure, and print the figure."""
    with tempfile.TemporaryDirectory(prefix="guard-ingestion-") as directory:
        variables = {"API_KEY": "bench-key", "PROJECT": "bench", "DB": str(Path(directory, "backend.db"))}
        environment = os.environ | {f"OTEL_GUARD_BACKEND_{name}": value for name, value in variables.items()}
        process = subprocess.Popen(
            [sys.executable, "-m", "opentelemetry_guard.cli", "backend", "--port", "0", "--rate-limit", "0"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().removeprefix("listening on ").strip()
            rate = measure(url)
        finally:
            process.terminate()
            process.wait(15)
    print(f"ingestion: {rate:,.0f} events/s in batches of {ROWS} (wanted: {WANTED_EVENTS_PER_SECOND:,})")


if __name__ == "__main__":
    main()
