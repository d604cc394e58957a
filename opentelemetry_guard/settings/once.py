"""Messages that a process says once, however often their cause comes up, and that reach somebody.

An operator who configures no logging reads standard error, where Python
prints warnings as a last resort; but it does so only where a logger has no
handler at all. opentelemetry-instrumentation-logging gives the root logger one
that prints nothing, and a refused API key would be told to a log pipeline
alone. So the package's logger has a last resort of its own, which looks at the
handlers that there are when there is something to say.
"""

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


def is_said(cause: str) -> bool:
    """Whether what makes `log_once` speak of this cause has been said, so that looking for it again can be spared."""
    return cause in _said


MAX_PRINTED = 100
"""Messages that are printed at most, so that nothing that goes on for weeks fills a disk."""

_SILENT = "opentelemetry."
"""What the modules of handlers begin with that print nothing: those of OpenTelemetry lead into its log pipeline."""


class _LastResort(logging.Handler):
    """Prints warnings and errors to standard error, each text once, where no handler of the application's would."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, unless it was, or somebody else does."""
        printer = logging.lastResort  # None where the application wants no such thing
        if printer is None or self._is_printed_elsewhere(record):
            return
        text = record.getMessage()
        if text not in self._printed and len(self._printed) < MAX_PRINTED:
            self._printed.add(text)
            printer.handle(record)

    def _is_printed_elsewhere(self, record: logging.LogRecord) -> bool:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None:
            if any(handler is not self and _prints(handler, record.levelno) for handler in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False


def _prints(handler: logging.Handler, level: int) -> bool:
    if level < handler.level or isinstance(handler, logging.NullHandler):
        return False
    return not any(cls.__module__.startswith(_SILENT) for cls in type(handler).__mro__)


logging.getLogger(__name__.partition(".")[0]).addHandler(_LastResort())
