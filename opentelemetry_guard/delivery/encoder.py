"""Rows to batches, and batches back to rows: the one place that knows a request's body."""

from __future__ import annotations

import gzip
import secrets
import time
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import orjson

from ..events.codec import EncodedRow, Row, format_nanoseconds
from ..events.jsonsafe import json_safe
from ..queue.base import DROPPED_TIMESTAMP, KINDS, Batch, Kind
from ..settings.delivery import Compression, GuardConfig
from ..version import __version__
from .body_limit import BodyLimit
from .compression import gzipped
from .envelope import Envelope
from .outcome import Outcome
from .rejection import untimely, with_rejections
from .wire import Piece, Receipt, Sifted, grouped

NO_PROJECT = "default"
"""The `project_id` of a body that was encoded when there was no project."""


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
    """Makes batches of Guard's rows for one project, and reads them again: a `Cargo`.

    A body is a head, the rows as JSON, and a tail: rows are encoded once each,
    and what a body has room for is known before it is put together.
    """

    def __init__(
        self,
        project_id: str | None,
        compression: Compression,
        envelope: Envelope | None = None,
        gzip_from: int = 1024,
        max_rows: int = 1000,
        guard_version: str | None = None,
        guard_core_version: str | None = None,
        limit: BodyLimit | None = None,
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
            limit: how large a body may be; the default's.
        """
        self._project_id = project_id or NO_PROJECT
        self._compression = compression
        self._envelope = envelope
        self._gzip_from = gzip_from
        self.max_rows = max_rows
        self._versions = {
            "agent_version": __version__,
            "guard_version": guard_version or _installed("fastapi-guard"),
            "guard_core_version": guard_core_version or _installed("guard-core"),
        }
        self.limit = limit or BodyLimit()
        # Ids and times have one length each, so this is what a body takes without rows.
        self._empty = {kind: len(self._body(kind, new_batch_id(), time.time_ns(), b"")) for kind in KINDS}

    @classmethod
    def of(cls, config: GuardConfig, limit: BodyLimit) -> Encoder:
        """Make the encoder of a destination's settings."""
        return cls(
            config.project_id,
            config.compression,
            Envelope(config.encryption_key) if config.encryption_key else None,
            config.compression_threshold,
            config.batch_size,
            config.guard_version,
            config.guard_core_version,
            limit,
        )

    def encode(self, kind: Kind, rows: Sequence[Row | EncodedRow], created_at: float | None = None) -> list[Batch]:
        """Return the batches for `rows`: as few as their number and the limit of a body allow.

        A single row that is larger than that is a batch of its own. Rows that
        come from older batches keep their age by `created_at` (Unix seconds):
        their place in the queue, and its oldest entry, depend on it.
        """
        return self.join(kind, self._encoded(kind, rows), created_at)

    def pieces(self, batch: Batch) -> list[Piece]:
        """Return a batch's rows for `join`: as the JSON that they are already, where a body has room for all of them.

        Raises:
            ValueError: the body is not what `encode` makes, or was encrypted with a key that we don't have.
        """
        encoded = self._encoded_rows(batch)
        if encoded is not None and len(encoded) <= self._room(batch.kind) and batch.rows <= self.max_rows:
            return [(encoded, batch.rows)]
        return self._encoded(batch.kind, self.rows(batch))

    def join(self, kind: Kind, pieces: Sequence[Piece], created_at: float | None) -> list[Batch]:
        """Return as few batches as have room for the pieces, in their order, that are as old as `created_at`."""
        groups = grouped(pieces, self._room(kind), self.max_rows, between=len(b","))
        return [self._batch(kind, b",".join(parts), rows, created_at) for parts, rows in groups]

    def _encoded(self, kind: Kind, rows: Sequence[Row | EncodedRow]) -> list[Piece]:
        """Return rows as JSON: in one piece where a body has room for all of them, which is mostly so."""
        encoded = [row.json if type(row) is EncodedRow else _dumps(row) for row in rows]  # type: ignore[arg-type]
        size = sum(map(len, encoded)) + len(encoded) - 1
        if encoded and size <= self._room(kind) and len(encoded) <= self.max_rows:
            return [(b",".join(encoded), len(encoded))]
        return [(row, 1) for row in encoded]

    def rows(self, batch: Batch) -> list[Row]:
        """Return the rows of a batch that was encoded here or by a sibling.

        Raises:
            ValueError: the body is not what `encode` makes, or was encrypted with a key that we don't have.
        """
        document = orjson.loads(self._content(batch))
        rows = document.get(batch.kind) if isinstance(document, dict) else None
        if not isinstance(rows, list):
            raise ValueError(f"batch {batch.batch_id} holds no {batch.kind}")
        if len(rows) != batch.rows:
            raise ValueError(f"batch {batch.batch_id} holds {len(rows)} {batch.kind} and was stored as {batch.rows}")
        return rows

    def _content(self, batch: Batch) -> bytes:
        """Return the JSON that has a batch's rows."""
        body = plain_body(batch)
        if not batch.encrypted:
            return body
        if self._envelope is None:
            raise ValueError(f"batch {batch.batch_id} is encrypted, and there is no key")
        document = orjson.loads(body)
        return self._envelope.open(str(document.get("encrypted_payload") if isinstance(document, dict) else None))

    def _encoded_rows(self, batch: Batch) -> bytes | None:
        """Return a batch's rows as the JSON between the brackets of their list; None where it is not as we make it."""
        content, (before, after) = self._content(batch), _FRAMES[batch.kind]
        _, found, rows = content.partition(before)
        return rows.removesuffix(after) if found and rows.endswith(after) else None

    def is_current(self, batch: Batch) -> bool:
        """Whether a batch may be sent as it is.

        Not so when it is larger than a body may be by now, when it waited in
        plain text and is to be encrypted, or waited for a project and there
        is one. (An encrypted body names no project: the header does.)
        """
        if batch.rows > 1 and plain_size(batch) >= self.limit.bound:
            return False
        if batch.encrypted:
            return True
        return self._envelope is None and (self._project_id == NO_PROJECT or not _names_no_project(batch))

    def size(self, batch: Batch) -> int:
        """Return the bytes of a batch's body without its compression."""
        return plain_size(batch)

    def split(self, batch: Batch) -> list[Batch]:
        """Return the batches that a batch's rows make under the limit; its two halves where it is within the limit.

        Raises:
            ValueError: the rows can't be read.
        """
        rows = self.rows(batch)
        middle = len(rows) if plain_size(batch) >= self.limit.bound else len(rows) // 2
        return [
            part for half in (rows[:middle], rows[middle:]) for part in self.encode(batch.kind, half, batch.created_at)
        ]

    def sift(self, batch: Batch) -> Sifted | None:
        """Return None: every row is worth sending, however old."""
        return None

    def receipt(self, batch: Batch, outcome: Outcome, was_sent_before: bool) -> Receipt:
        """Return what of an accepted batch was rejected; of the rows that are known to be, dead letters."""
        outcome = with_rejections(outcome, batch, was_sent_before)
        dropped = dict(outcome.rejected)
        if not (untimely_rows := dropped.get(DROPPED_TIMESTAMP)):
            return Receipt(outcome, dropped)
        now = time.time() if outcome.server_time is None else outcome.server_time
        try:
            found = untimely(self.rows(batch), untimely_rows, now)
        except ValueError:
            found = []
        if found:
            del dropped[DROPPED_TIMESTAMP]
        return Receipt(outcome, dropped, self.encode(batch.kind, found, batch.created_at))

    def _room(self, kind: Kind) -> int:
        """Return the bytes of encoded rows that a body has room for."""
        room = self.limit.bound - 1 - self._empty[kind]
        # Base64 makes four bytes of three, and fills up the last four.
        return room if self._envelope is None else (room - 4) * 3 // 4

    def _batch(self, kind: Kind, encoded: bytes, rows: int, created_at: float | None) -> Batch:
        batch_id, now = new_batch_id(), time.time_ns()
        body, encoding = self._body(kind, batch_id, now, encoded), ""
        # Ciphertext in base64 shrinks by a quarter at best, which is not worth its cost.
        if self._compression == "gzip" and len(body) >= self._gzip_from and self._envelope is None:
            body, encoding = gzipped(body), "gzip"
        age = now / 1e9 if created_at is None else created_at
        return Batch(batch_id, kind, rows, body, encoding, self._envelope is not None, age)

    def _body(self, kind: Kind, batch_id: str, nanoseconds: int, encoded: bytes) -> bytes:
        before, after = _FRAMES[kind]
        if self._envelope is not None:
            sealed = self._envelope.seal(b"".join((b"{", before, encoded, after)))
            return orjson.dumps({"encrypted_payload": sealed, "batch_id": batch_id, **self._versions})
        created_at = format_nanoseconds(nanoseconds)
        head = {"project_id": self._project_id, "batch_id": batch_id, "created_at": created_at, "compressed": False}
        return b"".join((_dumps({**head, **self._versions})[:-1], b",", before, encoded, after))


_FRAMES: Mapping[Kind, tuple[bytes, bytes]] = {
    "events": (b'"events":[', b'],"metrics":[]}'),
    "metrics": (b'"events":[],"metrics":[', b"]}"),
}
"""What stands before and after the rows. No text can look like it: within a string a quote is escaped."""

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


def plain_size(batch: Batch) -> int:
    """Return the bytes of a batch's body without its compression, without decompressing it.

    The last four bytes of a gzip member tell it (RFC 1952, section 2.3.1).
    """
    return int.from_bytes(batch.body[-4:], "little") if batch.content_encoding == "gzip" else len(batch.body)


def _dumps(document: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(document)
    except TypeError:
        # A record of somebody else's making carries a value that JSON has no form for.
        return orjson.dumps(json_safe(document))
