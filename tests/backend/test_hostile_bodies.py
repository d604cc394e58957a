"""Bodies that are small on the wire and large in memory: they are refused, and meanwhile others are served."""

from __future__ import annotations

import gzip
import json
import re
import select
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from support.backend import RunningBackend, running_backend
from support.sending import batch, event, post

LARGEST = 5 * 1024 * 1024
AT_ONCE = 16
MEMORY = 700 * 1024 * 1024
"""Bytes that the process may have had at once; each of these bodies took a hundred megabytes to gigabytes."""


def rows(item: bytes, size: int) -> bytes:
    """Return a batch of `size` bytes that is full of `item`."""
    return b'{"batch_id":"b","events":[' + b",".join([item] * (size // (len(item) + 1) - 50)) + b"]}"


def nested(size: int) -> bytes:
    depth = size // 2 - 50
    return b'{"batch_id":"b","events":[' + b"[" * depth + b"]" * depth + b"]}"


BODIES: dict[str, tuple[Callable[[], bytes], bool, set[int]]] = {
    "ones": (lambda: rows(b"1", LARGEST), False, {413}),
    "packed ones": (lambda: rows(b"1", LARGEST), True, {413}),
    "packed lists": (lambda: rows(b"[[]]", LARGEST), True, {413}),
    "packed objects": (lambda: rows(b"{}", LARGEST), True, {413}),
    "packed deep lists": (lambda: nested(LARGEST), True, {400, 413}),
    "a gzip bomb": (lambda: bytes(300_000_000), True, {413}),
    "a bomb of rows": (lambda: rows(b'{"event_type":"x"}', 200_000_000), True, {413}),
}


def peak(backend: RunningBackend) -> int:
    """Return how many bytes of memory the process has had at most."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{backend.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused_and_others_are_served_meanwhile(name: str) -> None:
    make, packed, refusals = BODIES[name]
    body = gzip.compress(make(), 1) if packed else make()
    headers = {"Content_Encoding": "gzip"} if packed else {}
    with running_backend(max_body_bytes=str(LARGEST)) as backend, ThreadPoolExecutor(AT_ONCE) as senders:

        def send(_: int) -> requests.Response:
            answer = post(backend, "/api/v1/events", body, **headers)
            assert answer.status_code != 503 or answer.headers["Retry-After"] == "1"
            return answer

        sent = [senders.submit(send, number) for number in range(AT_ONCE)]
        with requests.Session() as other:
            other.trust_env = False
            while True:
                good = json.dumps(batch(events=[event(event_type="good")])).encode()
                url = f"{backend.url}/api/v1/events"
                assert other.post(url, data=good, headers=backend.headers, timeout=60).status_code in (200, 503)
                if not wait(sent, 0).not_done:
                    break
        # 503: so many of them were held already, which a sender tries again.
        assert {one.result().status_code for one in sent} - {503} <= refusals
        assert all(one.result().json()["success"] is False for one in sent)
        assert post(backend, "/api/v1/events", batch(events=[event()])).status_code == 200
        if sys.platform == "linux":
            assert peak(backend) < MEMORY
        assert "Traceback" not in backend.stderr()


def test_bodies_beyond_what_is_held_at_once_are_503_until_there_is_room() -> None:
    begun, held = 5_160_000, 13  # 67,080,000 of the 67,108,864 bytes that may be held
    with running_backend(max_body_bytes=str(LARGEST)) as backend:
        port = int(backend.url.rpartition(":")[2])
        head = (
            f"POST /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {backend.api_key}\r\n"
            f"Content-Length: {LARGEST}\r\n\r\n"
        )
        small = batch(events=[event(reason="r" * 40_000)])
        with ExitStack() as stack:

            def slow() -> socket.socket:
                one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
                one.sendall(head.encode() + b" " * begun)
                return one

            waiting = [slow() for _ in range(held)]

            def ask() -> requests.Response:
                # Last bytes that are still on their way may be refused beside a small batch that was taken.
                answered, _, _ = select.select(waiting, [], [], 0)
                for one in answered:
                    one.close()
                    waiting[waiting.index(one)] = slow()
                return post(backend, "/api/v1/events", small)

            refused = until(503, ask)
            assert refused.headers["Retry-After"] == "1"
            assert refused.json()["success"] is False
            assert backend.http.get(f"{backend.url}/local/summary", timeout=20).status_code == 200
        assert until(200, lambda: post(backend, "/api/v1/events", small)).json()["success"] is True


def until(status: int, ask: Callable[[], requests.Response]) -> requests.Response:
    """Ask again until the answer has `status`, for some seconds."""
    ends = time.monotonic() + 60
    while True:
        answer = ask()
        if answer.status_code == status:
            return answer
        assert time.monotonic() < ends, f"still {answer.status_code}"
