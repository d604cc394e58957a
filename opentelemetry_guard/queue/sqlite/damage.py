"""Damaged files: how they are found, and the names under which the newest of them are kept."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path

from .private_file import identity

CHECK_SECONDS = 0.15
"""How long the integrity check at opening may take; a larger file is judged as it is read."""
DAMAGED_FILES_KEPT = 3
"""Damaged files that are kept, the newest ones."""

_DAMAGED_NAME = re.compile(r"\.damaged-\d+-(\d+)\Z")
_PARTS = ("-wal", "-shm", "")


def means_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether SQLite says that the file is damaged; by its text, since error codes came with Python 3.11."""
    text = str(error)
    return "file is not a database" in text or "malformed" in text


def check_integrity(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError when the file is found damaged within `CHECK_SECONDS`."""
    stop = time.monotonic() + CHECK_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > stop, 10_000)
    try:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        return
    finally:
        connection.set_progress_handler(None, 0)
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"malformed: {verdict}")


def set_aside(path: Path) -> Path:
    """Rename a file and its log to ``<name>.damaged-<unixtime>-<number>``, numbers from 1; remove the oldest such."""
    target = path.with_name(f"{path.name}.damaged-{int(time.time())}-{times_set_aside(path) + 1}")
    for suffix in _PARTS:
        source = Path(f"{path}{suffix}")
        if identity(source) is not None:
            source.rename(f"{target}{suffix}")
    for file in _damaged_files(path)[:-DAMAGED_FILES_KEPT]:
        for suffix in _PARTS:
            Path(f"{file}{suffix}").unlink(missing_ok=True)
    return target


def times_set_aside(path: Path) -> int:
    """Return how often a file of this name was set aside: from the names, a damaged file can no longer tell."""
    return max(map(_number, _damaged_files(path)), default=0)


def _number(damaged: Path) -> int:
    found = _DAMAGED_NAME.search(damaged.name)
    return int(found[1]) if found else 0


def _damaged_files(path: Path) -> list[Path]:
    """Return the damaged files that were set aside for `path`, without their logs, the oldest first."""
    found = (file for file in path.parent.iterdir() if file.name.startswith(f"{path.name}.damaged-"))
    return sorted((file for file in found if _number(file)), key=_number)
