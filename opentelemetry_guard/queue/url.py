"""Queue URLs: which store a URL names, and whether it is well formed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, cast

from ..settings.urls import mask_url
from .base import DeliveryQueue, QueueOptions
from .redis.url import FORMS, parse_redis_url
from .sqlite.path import check_memory_url, sqlite_path

ENTRY_POINT_GROUP = "opentelemetry_guard_queue"
"""Entry points of this group are named after a URL scheme and load a class with `from_url`."""

BUILT_IN = {
    "memory": "opentelemetry_guard.queue.memory:MemoryQueue",
    "sqlite": "opentelemetry_guard.queue.sqlite.store:SqliteQueue",
    **dict.fromkeys(FORMS, "opentelemetry_guard.queue.redis.store:RedisQueue"),
}
"""Our own stores, for frozen applications and source trees, which have no entry points."""


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
    entry_point = _stores()[scheme]
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
    known = _stores()
    if scheme not in known:
        names = ", ".join(f"{name}://" for name in sorted(known))
        raise ValueError(f"queue URL {mask_url(url)!r} has an unknown scheme; known are {names}")
    if scheme == "memory":
        check_memory_url(url)
    elif scheme == "sqlite":
        sqlite_path(url)
    elif scheme in FORMS:
        parse_redis_url(url)


def _scheme(url: str) -> str:
    """Return the scheme in lower case, ``""`` for none."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", url)
    return match.group(1).lower() if match else ""


@cache  # it reads a file of every distribution that is installed, and each exporter asks more than once
def _stores() -> Mapping[str, EntryPoint]:
    """Return the registered stores by scheme; an entry point wins over our own table."""
    stores = {name: EntryPoint(name, value, ENTRY_POINT_GROUP) for name, value in BUILT_IN.items()}
    stores.update({found.name.lower(): found for found in entry_points(group=ENTRY_POINT_GROUP)})
    return stores
