"""A strict Guard backend in a process of its own that can be broken in every way a backend breaks.

``python -m support.faulty_backend`` prints its two ports as one JSON line: the
one that speaks the wire contract, and one that takes orders, one JSON document
a line. It ends when its standard input does.

It validates every body, refuses rows whose metadata says ``poison`` with 422,
and keeps a record of every batch that it stored, whether it could say so or not.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import ValidationError

from opentelemetry_guard.models import AgentStatus, EventBatch

API_KEY = "faulty-backend-key"
MODES = ("up", "slow", "refused", "unavailable", "hang", "reset", "lost", "unauthorized", "small", "partial")
"""
``slow``: stores at once and answers after `SLOW_SECONDS`. ``refused``: nothing listens. ``unavailable``: 503.
``hang``: stores, never answers. ``reset``: stores nothing and resets the connection. ``lost``: stores and resets it, so
that the answer is lost. ``unauthorized``: 401. ``small``: 413 beyond `limit` bytes. ``partial``: stores nothing and
answers ``success: false``.
"""
SLOW_SECONDS = 0.25
LINE_BYTES = 256 * 1024 * 1024
"""Bound of one order, which may name a million keys."""

Json = dict[str, Any]


@dataclass(slots=True)
class Stored:
    """One request whose rows were stored, whether its answer was sent (`answered`) or not; times are Unix seconds."""

    batch_id: str
    kind: str
    rows: int
    at: float
    mode: str
    sender: str
    answered: bool
    keys: list[str]
    emitted: list[float]


@dataclass(slots=True)
class Waiter:
    """Somebody who waits for answered events: `missing` of these keys, or for `count` distinct ones in all."""

    missing: set[str]
    count: int
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Refused(Exception):
    """A request that the contract has something against."""


class Backend:
    """The state: mode, record, and who waits for what. Everything runs on one event loop."""

    def __init__(self) -> None:
        self.mode = "up"
        self.limit = 4096
        self.stored: list[Stored] = []
        self.answers: dict[str, int] = {}
        self.problems: list[str] = []
        self.answered_keys: set[str] = set()
        self.requests = 0
        self._waiters: list[Waiter] = []
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        # Bound and never listening: the port stays ours, and refuses, while nothing listens.
        self._reserve = _bound(0)
        self.port: int = self._reserve.getsockname()[1]

    async def set_mode(self, mode: str, limit: int | None = None) -> None:
        """Behave as `mode` says from now on."""
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}, allowed are {', '.join(MODES)}")
        self.mode = mode
        self.limit = limit or self.limit
        if mode == "refused":
            if self._server is not None:
                self._server.close()
                self._server = None
            for writer in list(self._connections):
                _reset(writer)
        elif self._server is None:
            self._server = await asyncio.start_server(self._serve, sock=_bound(self.port), backlog=256)

    async def wait(self, keys: list[str], count: int, timeout: float) -> Json:
        """Return once all of `keys` and `count` distinct events were stored and answered; say what is missing."""
        waiter = Waiter(set(keys) - self.answered_keys, count)
        if waiter.missing or len(self.answered_keys) < count:
            self._waiters.append(waiter)
            done = asyncio.ensure_future(waiter.done.wait())
            await asyncio.wait({done}, timeout=timeout)
            done.cancel()
            self._waiters.remove(waiter)
        missing = sorted(waiter.missing)
        return {
            "done": not missing and len(self.answered_keys) >= count,
            "answered": len(self.answered_keys),
            "missing": len(missing),
            "examples": missing[:5],
        }

    def summary(self) -> Json:
        """Return counts."""
        return {
            "requests": self.requests,
            "batches": len(self.stored),
            "events": len(self.answered_keys),
            "answers": self.answers,
            "problems": self.problems,
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while await self._one_request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went, or was killed
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _one_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request as the mode says; return whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        mode = self.mode
        self.requests += _carries_rows(head[0])
        if mode == "reset":
            _reset(writer)
            return False
        if not _carries_rows(head[0]):
            status, text, stored = *self._judge_control(mode, head[0], headers, raw), None
        else:
            status, text, stored = self._judge(mode, head[0], headers, raw)
        if stored is not None:
            self.stored.append(stored)
        if mode == "hang":
            await reader.read()  # until the client gives up
            return False
        if mode == "lost":
            _reset(writer)
            return False
        if mode == "slow":
            await asyncio.sleep(SLOW_SECONDS)
            if reader.at_eof():
                return False  # the client was killed while it waited
        if _carries_rows(head[0]):
            self.answers[str(status)] = self.answers.get(str(status), 0) + 1
        body = text.encode()
        answer = f"HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(answer.encode() + body)
        await writer.drain()
        if stored is not None:
            stored.answered = True
            stored.at = time.time()
            self._notify(stored.keys)
        return True

    def _judge_control(self, mode: str, line: str, headers: dict[str, str], raw: bytes) -> tuple[int, str]:
        """Answer a status report, or a question for rules, of which there are none; neither is counted."""
        if mode == "unavailable":
            return 503, '{"detail": "down for maintenance"}'
        if mode == "unauthorized" or headers.get("x-api-key") != API_KEY:
            return 401, '{"detail": "unknown API key"}'
        if line.startswith("GET /api/v1/rules "):
            return 404, '{"detail": "no rules"}'
        try:
            AgentStatus.model_validate_json(raw, strict=True)
        except ValidationError as error:
            self.problems.append(f"status: {str(error)[:300]}")
            return 422, json.dumps({"detail": "no status"})
        return 200, '{"success": true}'

    def _judge(self, mode: str, line: str, headers: dict[str, str], raw: bytes) -> tuple[int, str, Stored | None]:
        if mode == "unavailable":
            return 503, '{"detail": "down for maintenance"}', None
        if mode == "unauthorized" or headers.get("x-api-key") != API_KEY:
            return 401, '{"detail": "unknown API key"}', None
        if mode == "small" and len(raw) > self.limit:
            return 413, f'{{"detail": "larger than {self.limit} bytes"}}', None
        try:
            batch = _parse(line, headers, raw)
        except Refused as error:
            self.problems.append(str(error))
            return 422, json.dumps({"detail": str(error)}), None
        if poisonous := [e.idempotency_key for e in batch.events if e.metadata.get("poison")]:
            return 422, json.dumps({"detail": f"{len(poisonous)} events are poison"}), None
        if mode == "partial":
            return 200, '{"success": false, "errors": ["the store is full"]}', None
        kind = "events" if batch.events else "metrics"
        stored = Stored(
            batch.batch_id,
            kind,
            len(batch.events) or len(batch.metrics),
            time.time(),
            mode,
            headers.get("x-sender", ""),
            False,
            [event.idempotency_key for event in batch.events],
            [float(event.metadata.get("emitted", 0.0)) for event in batch.events],
        )
        return 200, '{"success": true}', stored

    def _notify(self, keys: list[str]) -> None:
        self.answered_keys.update(keys)
        for waiter in self._waiters:
            waiter.missing.difference_update(keys)
            if not waiter.missing and len(self.answered_keys) >= waiter.count:
                waiter.done.set()


def _carries_rows(line: str) -> bool:
    return not line.startswith(("POST /api/v1/status ", "GET /api/v1/rules "))


def _parse(line: str, headers: dict[str, str], raw: bytes) -> EventBatch:
    method, path, _ = line.split(" ", 2)
    if method != "POST" or path not in ("/api/v1/events", "/api/v1/metrics"):
        raise Refused(f"no such call: {method} {path}")
    try:
        body = gzip.decompress(raw) if headers.get("content-encoding") == "gzip" else raw
        batch = EventBatch.model_validate_json(body, strict=True)
    except (OSError, EOFError, ValidationError) as error:
        raise Refused(f"{type(error).__name__}: {str(error)[:300]}") from error
    kind = path.rpartition("/")[2]
    if bool(batch.events) != (kind == "events") or bool(batch.metrics) != (kind == "metrics"):
        raise Refused(f"{len(batch.events)} events and {len(batch.metrics)} metrics on {path}")
    return batch


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with a reset: lingering for zero seconds makes close() send one."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _control(backend: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def mode(order: Json) -> Json:
        await backend.set_mode(order["mode"], order.get("limit"))
        return {"at": time.time()}

    async def wait(order: Json) -> Json:
        return await backend.wait(order["keys"], order["count"], order["timeout"])

    async def summary(order: Json) -> Json:
        return backend.summary()

    async def report(order: Json) -> Json:
        return {**backend.summary(), "stored": [asdict(stored) for stored in backend.stored]}

    orders: dict[str, Callable[[Json], Awaitable[Json]]] = {f.__name__: f for f in (mode, wait, summary, report)}
    while line := await reader.readline():
        order = json.loads(line)
        writer.write(json.dumps(await orders[order["order"]](order)).encode() + b"\n")
        await writer.drain()
    writer.close()


async def _main() -> None:
    backend = Backend()
    await backend.set_mode("up")

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _control(backend, reader, writer)

    server = await asyncio.start_server(control, "127.0.0.1", 0, limit=LINE_BYTES)
    ports = {"port": backend.port, "control": server.sockets[0].getsockname()[1]}
    print(json.dumps(ports), flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def watch() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch, daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(_main())
