"""A file that only its owner can have prepared: private directory, no symbolic links, no foreign owners.

Nothing here ever opens an existing file. Closing any descriptor of a database
drops the POSIX locks that this process's connections hold on it, so existing
files are judged by `lstat` alone.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from ...settings.state import foreign
from ..base import QueueUnavailable
from ..locking import lock, unlock

_POSIX = os.name == "posix"

Identity = tuple[int, int]
"""Device and inode: whether a path still leads to the same file."""


def prepare_directory(directory: Path, private: bool = False) -> None:
    """Create `directory` with mode 0700 (its parents as the umask says), or check that the existing one is safe.

    With `private` an existing one that others may read is made 0700 too.

    Raises:
        QueueUnavailable: it is a symbolic link, somebody else's, or writable by others.
        OSError: it cannot be created.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        found = os.lstat(directory)
        _check(directory, found, "directory")
        if private:
            _restrict(directory, found, 0o700)


def prepare_file(path: Path) -> Identity:
    """Create an empty `path` with mode 0600 unless it exists, check an existing one, and return which file it is.

    Raises:
        QueueUnavailable: it is a symbolic link, no regular file, somebody else's, or writable by others.
        OSError: it cannot be created.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        # O_EXCL follows no symbolic link; under `directory_lock` nobody can have a connection before the close
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        found = os.lstat(path)
    _check(path, found, "file")
    return (found.st_dev, found.st_ino)


def restrict_files(paths: Iterable[Path]) -> None:
    """Give those of the files that exist mode 0600, so that others can no longer read them.

    Raises:
        QueueUnavailable: one is a symbolic link, no regular file, somebody else's, or writable by others.
    """
    for path in paths:
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            continue
        _check(path, found, "file")
        _restrict(path, found, 0o600)


def identity(path: Path) -> Identity | None:
    """Return which file `path` leads to now, None when there is none."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_dev, found.st_ino)


@contextmanager
def directory_lock(directory: Path, deadline: float) -> Iterator[None]:
    """Hold an advisory lock on `directory` against other processes that create or set aside files in it.

    `deadline` is on the monotonic clock, in seconds. It also keeps threads of
    this process apart: each call locks a description of its own.

    Raises:
        QueueUnavailable: somebody else held it until the deadline.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if not lock(descriptor, deadline):
            raise QueueUnavailable(f"{directory} is locked by another process that opens its queue")
        try:
            yield
        finally:
            unlock(descriptor)
    finally:
        os.close(descriptor)


def _restrict(path: Path, found: os.stat_result, mode: int) -> None:
    """Give what `_check` found to be ours the mode it should have; by path, in a directory that is ours alone."""
    if _POSIX and stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)


def _check(path: Path, found: os.stat_result, noun: Literal["directory", "file"]) -> None:
    """Refuse what somebody else could have put there or could change."""
    if (why := foreign(path, found, noun)) is not None:
        raise QueueUnavailable(f"the queue's {why}")
