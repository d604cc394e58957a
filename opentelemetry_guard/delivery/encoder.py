"""Rows to batches, and batches back to rows: the one place that knows a request's body."""

from __future__ import annotations

import gzip
import secrets
import time
import zlib
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import orjson

from ..codec import Row, format_nanoseconds
from ..config import Compression
from ..jsonsafe import json_safe
from ..queue.base import Batch, Kind
from ..version import __version__

GZIP_FROM = 1024
"""Bytes of a body from which on it is compressed."""
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
    """Makes batches for one project."""

    def __init__(self, project_id: str | None, compression: Compression) -> None:
        self._project_id = project_id or "default"
        self._compression = compression

    def encode(self, kind: Kind, rows: Sequence[Row], max_body: int = MAX_BODY) -> list[Batch]:
        """Return the batches for `rows`: one, or several where one body would pass `max_body` bytes."""
        if not rows:
            return []
        batch_id = new_batch_id()
        now = time.time_ns()
        body = _dumps(
            {
                "project_id": self._project_id,
                "batch_id": batch_id,
                "created_at": format_nanoseconds(now),
                "compressed": False,
                "agent_version": __version__,
                "guard_version": _installed("fastapi-guard"),
                "guard_core_version": _installed("guard-core"),
                "events": rows if kind == "events" else [],
                "metrics": rows if kind == "metrics" else [],
            }
        )
        if len(body) > max_body and len(rows) > 1:
            middle = len(rows) // 2
            return self.encode(kind, rows[:middle], max_body) + self.encode(kind, rows[middle:], max_body)
        encoding = ""
        if self._compression == "gzip" and len(body) >= GZIP_FROM:
            body, encoding = gzip.compress(body, GZIP_LEVEL), "gzip"
        return [Batch(batch_id, kind, len(rows), body, encoding, created_at=now / 1e9)]

    def rows(self, batch: Batch) -> list[Row]:
        """Return the rows of a batch that was encoded here or by a sibling.

        Raises:
            ValueError: the body is not what `encode` makes.
        """
        document = orjson.loads(plain_body(batch))
        rows = document.get(batch.kind) if isinstance(document, dict) else None
        if not isinstance(rows, list):
            raise ValueError(f"batch {batch.batch_id} holds no {batch.kind}")
        return rows


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


def _dumps(document: dict[str, object]) -> bytes:
    try:
        return orjson.dumps(document)
    except (TypeError, orjson.JSONEncodeError):
        # A record of somebody else's making carries a value that JSON has no form for.
        return orjson.dumps(json_safe(document))
