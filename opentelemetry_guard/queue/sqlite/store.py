"""The delivery queue in a private SQLite file."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from ..base import QueueOptions
from .file import FileDatabase
from .local import LocalQueue
from .path import destination_path, sqlite_path


class SqliteQueue(LocalQueue):
    """A delivery queue in a private SQLite file, shared by the threads and processes of one host.

    The file is created with mode 0600 in a directory of mode 0700 at the first call, not before.
    A damaged file is set aside under another name, and a new one begun.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        options: QueueOptions,
        *,
        clock: Callable[[], float] = time.time,
        remembers: int = 0,
        private_directory: bool = False,
    ) -> None:
        """Take the file's `path`, and bounds, lease time (seconds) and overflow policy from `options`.

        `clock` returns Unix seconds; `append` renews this owner's lease by it. The ids of the newest `remembers`
        batches that were delivered or replaced are kept, for `adopt`, by all owners of the file. With
        `private_directory` an existing directory of this user's that others may read is made 0700 too; without it
        stays as it is.
        """

        def remember(connection: sqlite3.Connection) -> None:
            if remembers:
                connection.execute("INSERT OR REPLACE INTO facts VALUES ('remembers', ?)", (remembers,))

        self.path = Path(os.path.abspath(os.fspath(path)))
        super().__init__(FileDatabase(self.path, private_directory, remember, self._count_lost), options, clock)

    @classmethod
    def from_url(cls, url: str, options: QueueOptions) -> SqliteQueue:
        """Make the queue of ``sqlite:///path/guard.db``, whose file is ``/path/guard-<destination>.db``.

        Raises:
            ValueError: the URL names no absolute file.
        """
        return cls(destination_path(sqlite_path(url), options.destination), options)

    def __repr__(self) -> str:
        """Name the file."""
        return f"SqliteQueue({str(self.path)!r})"
