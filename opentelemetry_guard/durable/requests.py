"""OTLP's requests as batches of a queue: encoded once, merged, split by resource and scope, and opened again."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message

from ..delivery.body_limit import BodyLimit
from ..delivery.compression import gzipped
from ..delivery.encoder import new_batch_id, plain_size
from ..delivery.envelope import Envelope
from ..delivery.outcome import Outcome
from ..delivery.wire import Piece, Receipt, Sifted, grouped
from ..queue.base import DROPPED_REJECTED, Batch, Kind
from ..settings.durable import Compression, DurableConfig
from .forms import FORMS, count, cut, parsed
from .series import Delivered, note, strip

DROPPED_EXPIRED = "expired"
"""Reason of rows that have waited longer than `max_age`."""
DROPPED_SUPERSEDED = "superseded"
"""Reason of points of a cumulative series that a newer one of it has made needless."""
MAX_ROWS = 1000
"""Rows of requests that are merged, at most: two batches of the SDK's processors are not."""


class Requests:
    """Makes batches of OTLP requests, and reads them again: a `Cargo`.

    A batch of points keeps the number of its rows when some of them are
    superseded: what its body lacks of them is counted when it is delivered.
    """

    def __init__(
        self,
        compression: Compression = "none",
        envelope: Envelope | None = None,
        limit: BodyLimit | None = None,
        max_age: float | None = None,
        keep_all_points: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Make one.

        Args:
            compression: of bodies.
            envelope: encrypts what waits in the queue; on the wire it is plain.
            limit: how large a body may be; the default's.
            max_age: seconds after which a batch is not worth sending any more.
            keep_all_points: whether superseded points are sent, too.
            clock: returns Unix seconds.
        """
        self._compression = compression
        self._envelope = envelope
        self.limit = limit or BodyLimit()
        self.max_rows = MAX_ROWS
        self._max_age = max_age
        self._delivered = None if keep_all_points else Delivered()
        self._clock = clock

    @classmethod
    def of(cls, config: DurableConfig, limit: BodyLimit) -> Requests:
        """Make that of a destination's settings."""
        envelope = Envelope(config.encryption_key) if config.encryption_key else None
        return cls(config.compression, envelope, limit, config.max_age, config.keep_all_points)

    def encode(self, kind: Kind, message: Message) -> list[Batch]:
        """Return the batches of a request: one, where it is not too large."""
        rows = count(message, FORMS[kind].path)
        return [self._batch(kind, body, number, None) for body, number in self._pieces(kind, message, rows)]

    def body(self, batch: Batch) -> bytes:
        """Return what goes on the wire.

        Raises:
            ValueError: it was encrypted with a key that we don't have.
        """
        if not batch.encrypted:
            return batch.body
        if self._envelope is None:
            raise ValueError(f"batch {batch.batch_id} is encrypted, and there is no key")
        return self._envelope.open(batch.body.decode(errors="replace"))

    def message(self, batch: Batch) -> Message:
        """Return a batch's request.

        Raises:
            ValueError: it can't be read.
        """
        return parsed(FORMS[batch.kind], self._plain(batch))

    def size(self, batch: Batch) -> int:
        """Return the bytes of a batch's body without compression and encryption."""
        if not batch.encrypted and batch.content_encoding != "deflate":
            return plain_size(batch)
        try:
            return len(self._plain(batch))
        except ValueError:
            return len(batch.body)

    def is_current(self, batch: Batch) -> bool:
        """Whether a batch is not larger than a body may be by now."""
        return batch.rows <= 1 or self.size(batch) < self.limit.bound

    def pieces(self, batch: Batch) -> list[Piece]:
        """Return a batch's rows for `join`: in one piece where a body has room for all of them.

        Raises:
            ValueError: they can't be read.
        """
        body = self._plain(batch)
        if len(body) < self.limit.bound:
            return [(body, batch.rows)]
        return self._pieces(batch.kind, parsed(FORMS[batch.kind], body), batch.rows)

    def join(self, kind: Kind, pieces: Sequence[Piece], created_at: float | None) -> list[Batch]:
        """Return as few batches as have room for the pieces, that are as old as `created_at`.

        One request after another is one request with the resources of both (Protocol Buffers, "Last One Wins").
        """
        groups = grouped(pieces, self.limit.bound - 1, self.max_rows)
        return [self._joined(kind, parts, rows, created_at) for parts, rows in groups]

    def split(self, batch: Batch) -> list[Batch]:
        """Return the batches that a batch's rows make under the limit; its halves where it is within the limit.

        Raises:
            ValueError: they can't be read.
        """
        message, form = self.message(batch), FORMS[batch.kind]
        if (present := count(message, form.path)) <= 1:
            raise ValueError("what is left of it is a single row")
        pieces = [
            piece
            for half in cut(message, form.path, present // 2)
            for piece in self._pieces(batch.kind, half, count(half, form.path))
        ]
        missing = batch.rows - present
        return [
            self._batch(batch.kind, body, rows + (0 if number else missing), batch.created_at)
            for number, (body, rows) in enumerate(pieces)
        ]

    def sift(self, batch: Batch) -> Sifted | None:
        """Look what of a batch is neither too old nor superseded."""
        if self._max_age is not None and self._clock() - batch.created_at > self._max_age:
            return Sifted(None, {DROPPED_EXPIRED: batch.rows})
        if self._delivered is None or batch.kind != "points":
            return None
        try:
            message = self.message(batch)
        except ValueError:
            return None  # whoever sends it says what is wrong with it
        if not strip(message, self._delivered.newest):
            return None
        if not count(message, FORMS[batch.kind].path):
            return Sifted(None, {DROPPED_SUPERSEDED: batch.rows})
        return Sifted(self._batch(batch.kind, message.SerializePartialToString(), batch.rows, batch.created_at))

    def receipt(self, batch: Batch, outcome: Outcome, was_sent_before: bool) -> Receipt:
        """Return what of an accepted batch the receiver has rejected, and what of it was superseded."""
        sent = batch.rows
        if self._delivered is not None and batch.kind == "points":
            with suppress(ValueError):
                message = self.message(batch)
                sent = count(message, FORMS[batch.kind].path)
                self._delivered.learn(message)
        rejected = min(sent, sum(outcome.rejected.values()))
        told = {DROPPED_REJECTED: rejected, DROPPED_SUPERSEDED: batch.rows - sent}
        outcome = replace(outcome, rejected={DROPPED_REJECTED: rejected} if rejected else {})
        return Receipt(outcome, {reason: rows for reason, rows in told.items() if rows})

    def _joined(self, kind: Kind, parts: Sequence[bytes], rows: int, created_at: float | None) -> Batch:
        body = b"".join(parts)
        if self._delivered is not None and kind == "points" and len(parts) > 1:
            message = parsed(FORMS[kind], body)
            newest: dict[bytes, int] = {}
            note(message, newest)
            if strip(message, newest):
                body = message.SerializePartialToString()
        return self._batch(kind, body, rows, created_at)

    def _pieces(self, kind: Kind, message: Any, rows: int) -> list[Piece]:
        """Return a request in pieces under the limit; a single row is one whatever its size."""
        body = message.SerializePartialToString()
        path = FORMS[kind].path
        present = count(message, path) if len(body) >= self.limit.bound else 0
        if present <= 1:
            return [(body, rows)]
        first, others = cut(message, path, present // 2)
        half = present // 2
        return [*self._pieces(kind, first, half), *self._pieces(kind, others, rows - half)]

    def _plain(self, batch: Batch) -> bytes:
        body = self.body(batch)
        try:
            match batch.content_encoding:
                case "gzip":
                    return gzip.decompress(body)
                case "deflate":
                    return zlib.decompress(body)
                case _:
                    return body
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"batch {batch.batch_id} can't be decompressed: {error}") from error

    def _batch(self, kind: Kind, body: bytes, rows: int, created_at: float | None) -> Batch:
        encoding = "" if self._compression == "none" else self._compression
        if encoding:
            body = gzipped(body) if encoding == "gzip" else zlib.compress(body)
        if self._envelope is not None:
            body = self._envelope.seal(body).encode()
        age = self._clock() if created_at is None else created_at
        return Batch(new_batch_id(), kind, rows, body, encoding, self._envelope is not None, age)
