"""The privacy of this process: what its code, its agent's configuration and the environment make together."""

from __future__ import annotations

import os
import threading

from .cleaning import Privacy
from .settings import PrivacySettings

# Guards the three variables below it; they are replaced whole, so that `current` reads without it.
_lock = threading.Lock()
_keywords: dict[str, object] = {}
_late: dict[str, object] = {}
_current: Privacy | None = None


def configure(**keywords: object) -> None:
    """Replace the settings that the process's code has made; they win over the environment.

    Args:
        **keywords: the attributes of `PrivacySettings`; None is not given. Without any, the environment decides.

    Raises:
        ValueError: a setting has a value that it can't have; the settings stay as they were.
        TypeError: there is no such setting.
    """
    global _keywords, _current
    with _lock:
        _current = Privacy(PrivacySettings.resolve(None, _late, **keywords))
        _keywords = keywords


def offer(origin: str, **settings: object) -> None:
    """Take settings that lose against keywords and the environment: those of an agent's configuration.

    Args:
        origin: whose they are, for the error's text.
        **settings: the attributes of `PrivacySettings`; None is not given. They stay until others are offered.

    Raises:
        ValueError: a setting has a value that it can't have; the settings stay as they were.
        TypeError: there is no such setting.
    """
    global _late, _current
    with _lock:
        late = {**_late, **{name: value for name, value in settings.items() if value is not None}}
        try:
            _current = Privacy(PrivacySettings.resolve(None, late, **_keywords))
        except ValueError as error:
            raise ValueError(f"{origin}: {error}") from None
        _late = late


def reset() -> None:
    """Forget what was configured and offered; the environment is read again at the next use. For tests."""
    global _keywords, _late, _current
    with _lock:
        _keywords, _late, _current = {}, {}, None


def current() -> Privacy:
    """Return the process's privacy; the environment is read at the first use."""
    global _current
    made = _current
    if made is None:
        with _lock:
            made = _current = _current or Privacy(PrivacySettings.resolve(None, _late, **_keywords))
    return made


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # the parent's may have been held by a thread that does not exist here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
