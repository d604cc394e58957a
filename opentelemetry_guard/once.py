"""Messages that a process says once, however often their cause comes up."""

from __future__ import annotations

import logging
import threading

_lock = threading.Lock()
_said: set[str] = set()  # guarded by _lock; bounded because texts are made from settings, never from requests


def log_once(logger: logging.Logger, level: int, message: str) -> None:
    """Log `message` at `level` unless this process has logged the same text before."""
    with _lock:
        if message in _said:
            return
        _said.add(message)
    logger.log(level, message)
