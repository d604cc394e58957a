"""Room on the disk: a full one must not keep stored rows from leaving.

Every change goes to the write-ahead log first and from there into the file, which may have to grow for it; a log that
has taken the last of the disk could never be emptied again. So what makes the file grow asks for the room before, and
what empties the file always has the reserve.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from ..base import QueueUnavailable

CHECKPOINT_PAGES = 256
"""Pages in the write-ahead log after which they are moved into the file."""
JOURNAL_BYTES = CHECKPOINT_PAGES * (4096 + 24) + 32
"""What the write-ahead log is cut back to: the file of that many pages, so that a full disk still has room in it."""
RESERVE_BYTES = 256 * 1024
"""Free bytes on the disk that are kept for taking rows out of the file."""
INSERT_OVERHEAD_BYTES = 64 * 1024
"""By how much the file may grow for one insertion beyond the body: pages of tables and indexes."""
AMPLE_BYTES = 64 * 1024 * 1024
"""Free bytes on the disk beyond what is to be stored with which nobody has to reckon more closely."""


def require_space(path: Path, connection: sqlite3.Connection, size: int) -> bool:
    """Refuse a body of `size` bytes for which the disk has no room, before it is inserted.

    Return whether room is so short that the log should be moved into the file after the insertion: then the file
    never has to grow for what is in the log.

    Raises:
        QueueUnavailable: what is free is needed to empty the log and the file.
    """
    disk = shutil.disk_usage(path.parent)
    if not disk.total or disk.free >= AMPLE_BYTES + 2 * size:
        return False  # A total of nothing: a file system that does not know its size
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free_pages,) = connection.execute("PRAGMA freelist_count").fetchone()
    needed = space_needed(
        size,
        database=pages * page_size,
        free_inside=free_pages * page_size,
        file=_size(path),
        journal=_size(Path(f"{path}-wal")),
    )
    if disk.free < needed:
        raise QueueUnavailable(
            f"{path}: the disk is almost full: {disk.free} bytes are free, {needed} are needed to store "
            f"{size} more and still take out what is stored; free some space"
        )
    return disk.free < needed + JOURNAL_BYTES


def space_needed(size: int, *, database: int, free_inside: int, file: int, journal: int) -> int:
    """Return how many bytes must be free on the disk for a body of `size` bytes to be stored.

    `database` is the size of the content, of which `free_inside` is unused; `file` and `journal` are what the file
    and its log occupy. After the insertion there has to be room for the whole log, for the file to grow to its
    content, and for the reserve. All in bytes.
    """
    ungrown = max(0, database - file)
    growth = max(0, size + INSERT_OVERHEAD_BYTES - free_inside)
    return ungrown + growth + size + max(0, JOURNAL_BYTES - journal) + RESERVE_BYTES


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0
