"""An alert as a log record, for whoever has an OpenTelemetry pipeline in the backend's process."""

from __future__ import annotations

import time

from opentelemetry._logs import LogRecord, SeverityNumber, get_logger_provider

from ... import semconv
from ...version import __version__
from .notice import ALERT_EVENT, Notice, NotTaken

_SEVERITIES = {"high": SeverityNumber.ERROR, "medium": SeverityNumber.WARN, "low": SeverityNumber.INFO}


class LogRecords:
    """Emits notices into the global LoggerProvider, where that is an SDK's."""

    def send(self, notice: Notice) -> None:
        """Emit a notice.

        Raises:
            NotTaken: the process has no SDK's provider, so that nobody would see it.
        """
        provider = get_logger_provider()
        if type(provider).__module__.startswith("opentelemetry._logs"):
            raise NotTaken(
                "no OpenTelemetry SDK is set up in this process: run the backend by opentelemetry-instrument"
            )
        severity = _SEVERITIES[notice.severity]
        attributes = {
            f"guard.alert.{name}": getattr(notice, name)
            for name in ("id", "rule", "when", "project", "subject", "count", "more", "test")
        }
        provider.get_logger(semconv.SCOPE_NAME, __version__).emit(
            LogRecord(
                timestamp=int(notice.at * 1e9),
                observed_timestamp=time.time_ns(),
                severity_number=severity,
                severity_text=severity.name,
                body=notice.text,
                attributes=attributes,
                event_name=ALERT_EVENT,
            )
        )
