"""Keeps secrets out of the log records in which the HTTP stack quotes a request.

FastAPI puts the message and the stack trace of an unhandled exception into a
log record of its own; where the application hands its `logging` to
OpenTelemetry, fastapi-guard adds URL, headers and matched content, and uvicorn
a traceback. These records go to every exporter of the application. Records of
the application's own loggers are the application's.

A batch processor takes a record as it is when it is emitted, so the one here
has to come before all others; the SDK only appends.
"""

from __future__ import annotations

import logging
from weakref import WeakKeyDictionary

from opentelemetry._logs import LoggerProvider, get_logger_provider
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from ..settings.once import log_once
from .spans import cleaners

_logger = logging.getLogger(__name__)

_LOGGERS = frozenset(
    {"fastapi", "starlette", "uvicorn", "hypercorn", "gunicorn", "guard_core", "fastapi_guard", "guard"}
)
"""Loggers of which, with all below them, the records are masked."""


class LogPrivacy(LogRecordProcessor):
    """Masks the secrets in the records of the HTTP stack's loggers; while it is not active it does nothing."""

    leaves_events = True
    """Security events, which are clean, need not be given to it (`events.sifting`)."""

    def __init__(self) -> None:
        self.active = True

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Mask the body and the attributes of a record."""
        scope = log_record.instrumentation_scope
        if self.active and scope is not None and scope.name.partition(".")[0] in _LOGGERS:
            _survive(log_record)

    def enabled(
        self,
        *,
        context: Context | None = None,
        instrumentation_scope: InstrumentationScope | None = None,
        severity_number: object = None,
        event_name: str | None = None,
    ) -> bool:
        """Return False: nobody has to log for the sake of what is masked here."""
        return False

    def shutdown(self) -> None:
        """Do nothing: there is nothing to end."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: there is nothing to flush."""
        return True


# What is installed, by provider; a provider that is gone takes its processor along.
_installed: WeakKeyDictionary[LoggerProvider, LogPrivacy] = WeakKeyDictionary()


def install(logger_provider: LoggerProvider | None = None) -> None:
    """Mask such records of a provider, the global one by default, from now on; a second call changes nothing.

    A provider that is not the SDK's records nothing and is left alone.
    """
    provider = logger_provider or get_logger_provider()
    present = _installed.get(provider)
    if present is not None:
        present.active = True
        return
    add = getattr(provider, "add_log_record_processor", None)
    if add is not None:
        made = _installed[provider] = LogPrivacy()
        add(made)
        _bring_forward(provider, made)


def uninstall() -> None:
    """Leave the records of all providers as they are."""
    for processor in _installed.values():
        processor.active = False


def _bring_forward(provider: LoggerProvider, processor: LogPrivacy) -> None:
    """Put a processor before those that were added earlier."""
    try:
        chain = provider._multi_log_record_processor  # type: ignore[attr-defined]
        with chain._lock:
            others = [other for other in chain._log_record_processors if other is not processor]
            chain._log_record_processors = (processor, *others)
    except AttributeError:
        log_once(
            _logger,
            logging.WARNING,
            "secrets that fastapi-guard, FastAPI and uvicorn log can't be masked for log processors that were added "
            "before GuardInstrumentor().instrument(): this release of OpenTelemetry keeps them differently",
        )


def _survive(found: ReadWriteLogRecord) -> None:
    """Mask a record; where that fails, everything goes that might hold a secret."""
    record = found.log_record
    try:
        clean, traces = cleaners()
        if isinstance(record.body, str):
            record.body = clean.message(record.body)
        elif record.body:
            record.body = clean.body(record.body)
        if record.attributes:
            record.attributes = {**record.attributes, **traces.changes(record.attributes, quoting=True)}
    except Exception as error:  # noqa: BLE001  a request must not fail for its telemetry's sake
        record.body, record.attributes = None, {}
        log_once(
            _logger,
            logging.ERROR,
            "log records of the HTTP stack can't be cleaned of secrets, so they lose their bodies and attributes; the "
            f"first failed with {type(error).__name__}",
            cause="uncleanable log records",
        )
