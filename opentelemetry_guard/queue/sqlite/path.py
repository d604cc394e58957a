"""Where a queue of this machine is: the file that a URL names, the default one, or memory. Nothing is opened here."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ...settings.state import state_directory
from ...settings.urls import mask_url
from ..base import QueueUnavailable

_DESTINATION = re.compile(r"[A-Za-z0-9_-]+")
_SQLITE_FORM = "sqlite:///absolute/path/guard.db"


def check_memory_url(url: str) -> None:
    """Raise ValueError for anything but ``memory://``."""
    if url.lower() not in ("memory:", "memory://"):
        raise ValueError(f"queue URL {mask_url(url)!r}: a memory queue takes no host, path or options; write memory://")


def sqlite_path(url: str) -> Path:
    """Return the absolute file path of a ``sqlite:///`` URL; percent escapes are decoded.

    Raises:
        ValueError: the URL names no absolute file.
    """
    parts = urlsplit(url)
    shown = mask_url(url)
    path = unquote(parts.path)
    if ":memory:" in url:
        raise ValueError(f"queue URL {shown!r}: a queue in memory is memory://; SQLite takes {_SQLITE_FORM}")
    if parts.netloc or not path.startswith("/"):
        raise ValueError(f"queue URL {shown!r} names no absolute path; write three slashes: {_SQLITE_FORM}")
    if parts.query or parts.fragment or "?" in url:
        raise ValueError(f"queue URL {shown!r}: SQLite takes no options; write ? as %3F and # as %23 in {_SQLITE_FORM}")
    if path.endswith("/") or "\0" in path:
        raise ValueError(f"queue URL {shown!r} names no file; write {_SQLITE_FORM}")
    return Path("/" + path.lstrip("/")) if os.name != "nt" else Path(path.lstrip("/"))


def destination_path(path: Path, destination: str) -> Path:
    """Return the file of one destination: ``guard.db`` and ``ab12`` give ``guard-ab12.db``, in the same directory."""
    if not _DESTINATION.fullmatch(destination):
        raise ValueError(f"destination {destination!r} cannot be part of a file name; use letters, digits, - and _")
    return path.with_name(f"{path.stem}-{destination}{path.suffix}")


def default_queue_path() -> Path:
    """Return the private state directory for queues, which may not exist yet.

    Raises:
        QueueUnavailable: there is no home directory.
    """
    directory = state_directory()
    if directory is None:
        raise QueueUnavailable(
            "there is no home directory for the queue; set OTEL_EXPORTER_GUARD_QUEUE_URL to "
            f"{_SQLITE_FORM} or memory://, or XDG_STATE_HOME to an absolute path"
        )
    return directory


def default_queue_file(destination: str) -> Path:
    """Return the SQLite file of one destination in the private state directory.

    Raises:
        QueueUnavailable: there is no home directory.
    """
    return destination_path(default_queue_path() / "queue.db", destination)
