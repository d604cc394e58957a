"""Queue URLs: which store a URL names, and whether it is well formed."""

from __future__ import annotations

import os
import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import unquote, urlsplit

from ..settings.urls import mask_url
from .base import DeliveryQueue, QueueOptions, QueueUnavailable
from .redis.url import FORMS, parse_redis_url

ENTRY_POINT_GROUP = "opentelemetry_guard_queue"
"""Entry points of this group are named after a URL scheme and load a class with `from_url`."""

BUILT_IN = {
    "memory": "opentelemetry_guard.queue.memory:MemoryQueue",
    "sqlite": "opentelemetry_guard.queue.sqlite.store:SqliteQueue",
    **dict.fromkeys(FORMS, "opentelemetry_guard.queue.redis.store:RedisQueue"),
}
"""Our own stores, for frozen applications and source trees, which have no entry points."""

_DESTINATION = re.compile(r"[A-Za-z0-9_-]+")
_SQLITE_FORM = "sqlite:///absolute/path/guard.db"


class StoreClass(Protocol):
    """What an entry point of the group `opentelemetry_guard_queue` loads."""

    def from_url(self, url: str, options: QueueOptions) -> DeliveryQueue:
        """Make a queue (a classmethod) that opens nothing yet; ValueError when the URL is malformed."""
        ...


def open_queue(url: str, options: QueueOptions) -> DeliveryQueue:
    """Make the delivery queue that a URL names.

    Example::

        queue = open_queue("sqlite:///var/lib/app/guard.db", QueueOptions(destination="ab12"))

    Raises:
        ValueError: the URL is malformed, its scheme is unknown or its store cannot be loaded.
    """
    check_queue_url(url)
    scheme = _scheme(url)
    entry_point = _entry_points()[scheme]
    try:
        store = entry_point.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"the store {entry_point.value} of queue URL scheme {scheme!r} cannot be loaded: {error}"
        ) from error
    if not hasattr(store, "from_url"):
        raise ValueError(f"the store {entry_point.value} of queue URL scheme {scheme!r} has no classmethod from_url")
    return cast(StoreClass, store).from_url(url, options)


def check_queue_url(url: str) -> None:
    """Raise ValueError for a URL that `open_queue` would refuse; imports no store and opens nothing."""
    scheme = _scheme(url)
    known = _entry_points()
    if scheme not in known:
        names = ", ".join(f"{name}://" for name in sorted(known))
        raise ValueError(f"queue URL {mask_url(url)!r} has an unknown scheme; known are {names}")
    if scheme == "memory":
        check_memory_url(url)
    elif scheme == "sqlite":
        sqlite_path(url)
    elif scheme in FORMS:
        parse_redis_url(url)


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

    It is ``opentelemetry-guard`` in ``$XDG_STATE_HOME``, else in
    ``~/.local/state``; an empty or relative variable is ignored, as the XDG
    Base Directory Specification says.

    Raises:
        QueueUnavailable: there is no home directory.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):
        return Path(state) / "opentelemetry-guard"
    home = os.path.expanduser("~")
    if os.environ.get("HOME") == "" or not os.path.isabs(home):
        raise QueueUnavailable(
            "there is no home directory for the queue; set OTEL_EXPORTER_GUARD_QUEUE_URL to "
            f"{_SQLITE_FORM} or memory://, or XDG_STATE_HOME to an absolute path"
        )
    return Path(home) / ".local" / "state" / "opentelemetry-guard"


def default_queue_file(destination: str) -> Path:
    """Return the SQLite file of one destination in the private state directory.

    Raises:
        QueueUnavailable: there is no home directory.
    """
    return destination_path(default_queue_path() / "queue.db", destination)


def _scheme(url: str) -> str:
    """Return the scheme in lower case, ``""`` for none."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", url)
    return match.group(1).lower() if match else ""


def _entry_points() -> dict[str, EntryPoint]:
    """Return the registered stores by scheme; an entry point wins over our own table."""
    stores = {name: EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in BUILT_IN.items()}
    stores.update({found.name.lower(): found for found in entry_points(group=ENTRY_POINT_GROUP)})
    return stores
