"""Which store processes share: one that a setting names, or one beside the queue of security events."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ...settings import in_use
from ...settings.state import state_directory
from .stores import Store


def place(given: str | None) -> str | None:
    """Return the URL of the store: the one that is given, else one beside the queue of security events.

    Without an exporter nothing is shared, and neither is what a queue in memory waits beside.
    """
    if given is not None:
        return None if given.startswith("memory:") else given
    for config in in_use.event_deliveries():
        url = config.queue_url
        if url is None:
            directory = state_directory()
            if directory is not None:
                return f"sqlite://{directory / f'behavior-{config.destination}.db'}"
        elif url.lower().startswith("redis"):
            return f"{url}#{config.destination}"
        elif url.lower().startswith("sqlite:"):
            queue = Path(unquote(urlsplit(url).path))
            return f"sqlite://{queue.with_name(f'{queue.stem}-behavior-{config.destination}.db')}"
    return None


def open_store(url: str) -> Store:
    """Return the store of a URL; nothing is opened before its first call."""
    if url.lower().startswith("sqlite:"):
        from .sqlite_store import SqliteStore

        return SqliteStore(Path(unquote(urlsplit(url).path)))
    from .redis_store import RedisStore

    return RedisStore(url)
