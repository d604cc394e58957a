"""Rows to batches, and batches back to rows: the one place that knows a request's body."""

from __future__ import annotations

import gzip
import secrets
import time
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import cast

import orjson

from ..events.codec import Row, format_nanoseconds
from ..events.jsonsafe import json_safe
from ..queue.base import Batch, Kind
from ..settings.delivery import Compression
from ..version import __version__
from .envelope import Envelope

NO_PROJECT = "default"
"""The `project_id` of a body that was encoded when there was no project."""
GZIP_LEVEL = 1
"""Level 6 takes two and a half times as long for rows like these and saves an eighth."""
MAX_BODY = 1024 * 1024
"""Bytes of an uncompressed body beyond which its rows are spread over several batches."""


@cache
def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def new_batch_id() -> str:
    """Return a new batch id: milliseconds since 1970 and a random part."""
    return f"{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}"


class Encoder:
    """Makes batches for one project, and reads them again."""

    def __init__(
        self,
        project_id: str | None,
        compression: Compression,
        envelope: Envelope | None = None,
        gzip_from: int = 1024,
        max_rows: int = 1000,
        guard_version: str | None = None,
        guard_core_version: str | None = None,
    ) -> None:
        """Make an encoder.

        Args:
            project_id: whose rows they are; None is the project ``default``.
            compression: of bodies of `gzip_from` bytes and more.
            envelope: encrypts the rows of every batch, in the queue as on the wire.
            gzip_from: bytes of a body from which on it is compressed.
            max_rows: rows of one batch at most.
            guard_version: release of fastapi-guard that bodies name; None is the installed one.
            guard_core_version: release of guard-core that bodies name; None is the installed one.
        """
        self._project_id = project_id or NO_PROJECT
        self._compression = compression
        self._envelope = envelope
        self._gzip_from = gzip_from
        self.max_rows = max_rows
        self._guard_version = guard_version
        self._guard_core_version = guard_core_version

    def encode(
        self, kind: Kind, rows: Sequence[Row], max_body: int = MAX_BODY, created_at: float | None = None
    ) -> list[Batch]:
        """Return the batches for `rows`: one, or several where one body would pass `max_body` bytes.

        Rows that come from older batches keep their age by `created_at` (Unix
        seconds): their place in the queue, and its oldest entry, depend on it.
        """
        if not rows:
            return []
        if len(rows) > self.max_rows:
            parts = [rows[start : start + self.max_rows] for start in range(0, len(rows), self.max_rows)]
            return [batch for part in parts for batch in self.encode(kind, part, max_body, created_at)]
        batch_id = new_batch_id()
        now = time.time_ns()
        body = self._body(kind, rows, batch_id, format_nanoseconds(now))
        if len(body) > max_body and len(rows) > 1:
            spread = _parts(rows, self._room(max_body))
            return [batch for part in spread for batch in self.encode(kind, part, max_body, created_at)]
        encoding = ""
        # Ciphertext in base64 shrinks by a quarter at best, which is not worth its cost.
        if self._compression == "gzip" and len(body) >= self._gzip_from and self._envelope is None:
            body, encoding = gzip.compress(body, GZIP_LEVEL), "gzip"
        encrypted = self._envelope is not None
        return [
            Batch(batch_id, kind, len(rows), body, encoding, encrypted, now / 1e9 if created_at is None else created_at)
        ]

    def rows(self, batch: Batch) -> list[Row]:
        """Return the rows of a batch that was encoded here or by a sibling.

        Raises:
            ValueError: the body is not what `encode` makes, or was encrypted with a key that we don't have.
        """
        document = orjson.loads(plain_body(batch))
        if batch.encrypted and isinstance(document, dict):
            if self._envelope is None:
                raise ValueError(f"batch {batch.batch_id} is encrypted, and there is no key")
            document = orjson.loads(self._envelope.open(str(document.get("encrypted_payload"))))
        rows = document.get(batch.kind) if isinstance(document, dict) else None
        if not isinstance(rows, list):
            raise ValueError(f"batch {batch.batch_id} holds no {batch.kind}")
        if len(rows) != batch.rows:
            raise ValueError(f"batch {batch.batch_id} holds {len(rows)} {batch.kind} and was stored as {batch.rows}")
        return rows

    def is_current(self, batch: Batch) -> bool:
        """Whether a batch may be sent as it is.

        Not so when it waited in plain text and is to be encrypted by now, or
        waited for a project and there is one by now. (An encrypted body names no project: the header does.)
        """
        if batch.encrypted:
            return True
        return self._envelope is None and (self._project_id == NO_PROJECT or not _names_no_project(batch))

    def _room(self, max_body: int) -> int:
        """Return the bytes of rows that a body of `max_body` bytes has room for."""
        room = max_body - 1024
        return room if self._envelope is None else room * 3 // 4  # base64 makes four bytes of three

    def _body(self, kind: Kind, rows: Sequence[Row], batch_id: str, created_at: str) -> bytes:
        content = {"events": rows if kind == "events" else [], "metrics": rows if kind == "metrics" else []}
        versions = {
            "agent_version": __version__,
            "guard_version": self._guard_version or _installed("fastapi-guard"),
            "guard_core_version": self._guard_core_version or _installed("guard-core"),
        }
        if self._envelope is not None:
            sealed = self._envelope.seal(_dumps(content))
            return orjson.dumps({"encrypted_payload": sealed, "batch_id": batch_id, **versions})
        head = {"project_id": self._project_id, "batch_id": batch_id, "created_at": created_at, "compressed": False}
        return _dumps({**head, **versions, **content})


_HEAD_WITHOUT_PROJECT = orjson.dumps({"project_id": NO_PROJECT})[:-1]


def _names_no_project(batch: Batch) -> bool:
    """Whether a body of ours was encoded without a project; only its beginning is decompressed for that."""
    if batch.content_encoding != "gzip":
        return batch.body.startswith(_HEAD_WITHOUT_PROJECT)
    try:
        head = zlib.decompressobj(wbits=31).decompress(batch.body, len(_HEAD_WITHOUT_PROJECT))
    except zlib.error:
        # It is sent as it is, and the backend says what is wrong with it.
        return False
    return head == _HEAD_WITHOUT_PROJECT


def plain_body(batch: Batch) -> bytes:
    """Return a batch's body without its compression.

    Raises:
        ValueError: it can't be decompressed.
    """
    if batch.content_encoding != "gzip":
        return batch.body
    try:
        return gzip.decompress(batch.body)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"batch {batch.batch_id} can't be decompressed: {error}") from error


def _parts(rows: Sequence[Row], room: int) -> list[list[Row]]:
    """Spread rows over as few parts as hold `room` bytes each; a larger row is a part of its own.

    Each row is encoded once here, and goes on as the JSON that it is.
    """
    parts: list[list[Row]] = []
    left = 0
    for row in rows:
        encoded = _dumps({"row": [row]})[len(b'{"row":[') : -len(b"]}")]
        if not parts or len(encoded) >= left:
            parts.append([])
            left = room
        left -= len(encoded) + 1
        parts[-1].append(cast("Row", orjson.Fragment(encoded)))
    return parts


def _dumps(document: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(document)
    except (TypeError, orjson.JSONEncodeError):
        # A record of somebody else's making carries a value that JSON has no form for. Row by row, since the bounds of
        # `json_safe` are those of one row.
        safe = {
            key: [row if isinstance(row, orjson.Fragment) else json_safe(row) for row in value]
            if isinstance(value, list)
            else value
            for key, value in document.items()
        }
        return orjson.dumps(safe)
