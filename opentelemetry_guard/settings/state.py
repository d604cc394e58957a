"""Where this user's state is kept, by the XDG Base Directory Specification, and whether it is this user's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

_OURS = "opentelemetry-guard"
_POSIX = os.name == "posix"
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def state_directory() -> Path | None:
    """Return the private state directory, which may not exist yet; None where there is no home directory.

    It is ``opentelemetry-guard`` in ``$XDG_STATE_HOME``, else in ``~/.local/state``; an empty or relative variable is
    ignored.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):
        return Path(state) / _OURS
    home = os.path.expanduser("~")
    if os.environ.get("HOME") == "" or not os.path.isabs(home):
        return None
    return Path(home) / ".local" / "state" / _OURS


def foreign(path: Path, found: os.stat_result, noun: Literal["directory", "file"]) -> str | None:
    """Return why somebody else could have put there or could change what we write to; None where nobody could.

    Args:
        path: of the file or directory.
        found: what `lstat` says of it.
        noun: what it should be; the answer begins with it.
    """
    if stat.S_ISLNK(found.st_mode):
        return f"{noun} {path} is a symbolic link; name the {noun} that it leads to"
    if not (stat.S_ISDIR(found.st_mode) if noun == "directory" else stat.S_ISREG(found.st_mode)):
        return f"{noun} {path} is not a {noun}; choose another path"
    if not _POSIX:
        return None
    if found.st_uid != os.geteuid():
        return (
            f"{noun} {path} belongs to user id {found.st_uid}, this process runs as {os.geteuid()}; "
            f"choose a {noun} of its own"
        )
    if found.st_mode & _OTHERS_MAY_WRITE:
        return (
            f"{noun} {path} has mode {stat.S_IMODE(found.st_mode):04o}, others may write to it; "
            f"run chmod go-w on it or choose a private one"
        )
    return None
