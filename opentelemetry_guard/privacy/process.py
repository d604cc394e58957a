"""The privacy of this process: what its code, late settings and the environment make together."""

from __future__ import annotations

import os
import threading

from ..events.jsonsafe import safe_text
from ..settings import late
from ..settings.privacy import PrivacySettings
from .cleaning import Privacy

# Guards the two variables below it; they are replaced whole, so that `current` reads without it.
_lock = threading.RLock()  # a signal's handler may emit in the midst of the first emission
_keywords: dict[str, object] = {}
_current: Privacy | None = None


def configure(**keywords: object) -> None:
    """Replace the settings that the process's code has made; they win over the environment.

    Args:
        **keywords: the attributes of `PrivacySettings`; None is not given. Without any, the environment decides.

    Raises:
        ValueError: a setting has a value that it can't have; the settings stay as they were.
        TypeError: there is no such setting.

    .. versionadded:: 1.0
    """
    global _keywords, _current
    with _lock:
        _current = Privacy(PrivacySettings.resolve(**keywords))
        _keywords = keywords


def reset() -> None:
    """Forget what was configured; the environment is read again at the next use. For tests."""
    global _keywords, _current
    with _lock:
        _keywords, _current = {}, None


def current() -> Privacy:
    """Return the process's privacy; the environment is read at the first use, and after settings have come late."""
    global _current
    made = _current
    if made is None:
        with _lock:
            made = _current = _current or Privacy(PrivacySettings.resolve(**_keywords))
    return made


def told(error: BaseException) -> str:
    """Return somebody else's exception as it may be logged: without secrets, and whatever its own methods raise."""
    try:
        written = repr(error)
    except Exception:  # noqa: BLE001  a stranger's __repr__ may raise anything, and there is a text for that case
        written = type(error).__name__
    return current().text(safe_text(written))


def _settings_came_late() -> None:
    global _current
    with _lock:
        _current = None


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # the parent's may have been held by a thread that does not exist here


late.subscribe(_settings_came_late)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
