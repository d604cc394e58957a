"""Messages that a process says once, however often their cause comes up."""

from __future__ import annotations

import logging

_said: dict[str, object] = {}  # entries are only added, by setdefault, which is atomic and leaves a fork no held lock


def log_once(logger: logging.Logger, level: int, message: str, *, cause: str | None = None) -> None:
    """Log `message` at `level` unless this process has logged the same thing before.

    Args:
        logger: where to log.
        level: of the `logging` module.
        message: the text.
        cause: what makes two messages the same. The default is the text; a text that quotes data (not only settings)
            needs a fixed cause, else every value is said once and remembered for ever.
    """
    ours = object()
    if _said.setdefault(message if cause is None else cause, ours) is ours:
        logger.log(level, message)
