"""A file with a line for each event, for whatever ships logs, whether a backend answers or not.

Several processes may write to one file. Each batch is appended under an
advisory lock on a file beside it (``.lock``), which is held for the write
alone, so that no line is torn and one process rotates at a time; the others
see that the file is another one, and go on with that. Where a disk is full,
what was written of a batch is taken back. A batch that can't be written is
counted, said once, and delivered all the same.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING

from ..events.codec import EncodedRow, Row
from ..queue.locking import lock, unlock
from ..settings.once import log_once
from ..settings.shown import quoted
from ..siem.formats import FORMATS
from .repeats import Repeats
from .stats import EventLogStats

if TYPE_CHECKING:
    from ..settings.delivery import GuardConfig

_logger = logging.getLogger(__name__)

_LOCK_SECONDS = 1.0
"""How long another process's write is waited for."""
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
# No symbolic link that somebody put there is followed, and a pipe without a reader is not waited for.
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class EventLog:
    """Writes events to one file, in one format. Any thread may write; it never raises."""

    def __init__(self, path: str, format_name: str, max_bytes: int, backups: int) -> None:
        """Write to `path`, and rotate it before it has `max_bytes` (0: never); `backups` former files are kept."""
        self._line = FORMATS[format_name].line
        self._as_it_is = format_name == "ndjson"
        self._file = _RotatedFile(path, maxBytes=max_bytes, backupCount=backups, delay=True)
        self._writing = threading.Lock()
        self._repeats = Repeats()
        self._written, self._lost = 0, 0  # under _writing

    @property
    def stats(self) -> EventLogStats:
        """What was written and lost so far."""
        return EventLogStats(self._written, self._lost)

    def write(self, rows: Sequence[Row | EncodedRow]) -> None:
        """Append a line for each of the rows that has none yet: the file may be that of several destinations."""
        rows = self._repeats.without(rows)
        if not rows:
            return
        lines = bytearray()
        unmapped = 0
        for row in rows:
            try:
                lines += self._line_of(row) + b"\n"
            except Exception as error:  # noqa: BLE001  one row must not cost the others
                unmapped += 1
                self._complain(f"an event has no form in it ({type(error).__name__})")
        with self._writing:
            try:
                if lines:
                    self._file.append(bytes(lines))
                self._written += len(rows) - unmapped
                self._lost += unmapped
            except Exception as error:  # noqa: BLE001  a file's trouble must not cost the delivery
                self._lost += len(rows)
                self._complain(self._why(error))

    def _line_of(self, row: Row | EncodedRow) -> bytes:
        if isinstance(row, EncodedRow):
            return row.json if self._as_it_is else self._line(row.decoded())
        return self._line(row)

    def _why(self, error: Exception) -> str:
        if not isinstance(error, OSError):
            return type(error).__name__
        why = error.strerror or str(error)
        # What is in the way may be another file: the lock, the directory, or a former file.
        other = error.filename if error.filename != self._file.baseFilename else None
        return f"{quoted(str(other))}: {why}" if other else why

    def _complain(self, why: str) -> None:
        path = self._file.baseFilename
        log_once(
            _logger,
            logging.WARNING,
            f"OTEL_EXPORTER_GUARD_EVENT_LOG is {quoted(path)}, to which events can't be written ({why}): "
            "they are counted, and delivered all the same",
            cause=f"event log {path}",
        )


class _RotatedFile(RotatingFileHandler):
    """The standard library's file that is rotated, written to by several processes in turn; errors are raised."""

    _former: os.stat_result | None = None
    """Of the file in whose place another one is to be made."""

    def append(self, data: bytes) -> None:
        with _locked(f"{self.baseFilename}.lock"):
            descriptor, size = self._ready()
            if self.maxBytes and size and size + len(data) > self.maxBytes:
                self._former = os.fstat(descriptor)
                self.doRollover()
                descriptor, size = self._ready()
            try:
                _write(descriptor, data)
            except OSError:
                os.ftruncate(descriptor, size)  # nobody else writes meanwhile
                raise

    def _ready(self) -> tuple[int, int]:
        """Return the descriptor and the size of the file that the path leads to now."""
        if self.stream is not None:
            held = os.fstat(self.stream.fileno())
            try:
                found = os.lstat(self.baseFilename)
            except FileNotFoundError:
                found, self._former = None, held
            if found is None or (found.st_dev, found.st_ino) != (held.st_dev, held.st_ino):
                self.close()
        if self.stream is None:
            self.stream = self._open()
        descriptor = self.stream.fileno()
        return descriptor, os.fstat(descriptor).st_size

    def _open(self) -> TextIOWrapper:
        former, self._former = self._former, None
        try:
            descriptor = os.open(self.baseFilename, _FLAGS | _SAFELY | os.O_EXCL, 0o600)
        except FileExistsError:
            descriptor, former = os.open(self.baseFilename, _FLAGS | _SAFELY, 0o600), None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError("it is no regular file")
            if former is not None:
                _hand_on(former, descriptor)
            return open(descriptor, "a", encoding="utf-8")
        except BaseException:
            os.close(descriptor)
            raise


def _hand_on(former: os.stat_result, descriptor: int) -> None:
    """Open a file that was just made to those who could read the former one: its group too, whatever the umask is."""
    if sys.platform == "win32":
        return
    mode = stat.S_IMODE(former.st_mode)
    if os.fstat(descriptor).st_gid != former.st_gid:
        try:
            os.fchown(descriptor, -1, former.st_gid)
        except OSError:
            mode &= ~stat.S_IRWXG  # not for another group than it was meant for
    os.fchmod(descriptor, mode)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold the advisory lock for the block; the file stays, since whoever removes it would unlock others.

    Raises:
        OSError: the lock's file can't be opened, or another process held it for too long.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _SAFELY, 0o600)
    try:
        if not lock(descriptor, time.monotonic() + _LOCK_SECONDS):
            raise OSError("another process keeps its lock")
        try:
            yield
        finally:
            unlock(descriptor)
    finally:
        os.close(descriptor)


_making = threading.Lock()
_logs: dict[tuple[object, ...], EventLog] = {}  # entries are added under _making


def event_log(config: GuardConfig) -> EventLog | None:
    """Return this process's log of the file that the settings name; None where they name none."""
    if config.event_log is None:
        return None
    wanted = (config.event_log, config.event_log_format, config.event_log_max_bytes, config.event_log_backups)
    found = _logs.get(wanted)
    if found is None:
        with _making:
            found = _logs.setdefault(wanted, EventLog(*wanted))
    return found


def _after_fork_in_child() -> None:
    global _making
    # The parent's may be in the midst of a write; the child opens its own.
    _making = threading.Lock()
    _logs.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
