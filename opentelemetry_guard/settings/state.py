"""Where this user's state is kept, as the XDG Base Directory Specification says."""

from __future__ import annotations

import os
from pathlib import Path

_OURS = "opentelemetry-guard"


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
