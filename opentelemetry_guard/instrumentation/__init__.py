"""The instrumentor that ``opentelemetry-instrument`` loads.

Usage without code::

    opentelemetry-instrument uvicorn main:app

or by hand, after the providers were set::

    from opentelemetry_guard.instrumentation import GuardInstrumentor

    GuardInstrumentor().instrument()

What fastapi-guard reports to its agent becomes security events and metrics,
with no change to the application (`fastapi_guard`).

Settings:

``OTEL_PYTHON_GUARD_SIGTERM_HANDLER`` (keyword `sigterm_handler`): ``false``
    keeps signals as they are. By default, where SIGTERM (or SIGINT) has the
    system's default action,
    the telemetry that is still in the SDK's processors is shut down in order
    before the process ends by that signal. uvicorn needs this: it raises the
    signal again when it has stopped, and no ``atexit`` handler runs then.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from typing import Any

from opentelemetry._logs import get_logger_provider
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from opentelemetry.metrics import get_meter_provider
from opentelemetry.trace import get_tracer_provider

from ..environment_variables import OTEL_PYTHON_GUARD_SIGTERM_HANDLER
from ..once import log_once
from . import fastapi_guard, termination

__all__ = ["GuardInstrumentor"]

_logger = logging.getLogger(__name__)


class GuardInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # the base is untyped
    """Prepares a process for security telemetry and captures what fastapi-guard reports.

    A second `instrument` changes nothing.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return what has to be installed: nothing."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        if _no_provider():
            log_once(
                _logger,
                logging.WARNING,
                "OpenTelemetry has no SDK providers, so nothing is recorded: install a distro for "
                "opentelemetry-instrument (pip install 'opentelemetry-guard[auto]'), or set providers in code first",
            )
        if _enabled(OTEL_PYTHON_GUARD_SIGTERM_HANDLER, kwargs.get("sigterm_handler")):
            termination.install()
            termination.follow_uvicorn()
        fastapi_guard.install()

    def _uninstrument(self, **kwargs: Any) -> None:
        fastapi_guard.uninstall()
        termination.unfollow_uvicorn()
        termination.uninstall()


def _no_provider() -> bool:
    """Whether all three global providers are the API's own, which record nothing."""
    providers = (get_tracer_provider(), get_logger_provider(), get_meter_provider())
    return all(
        type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry._logs", "opentelemetry.metrics"))
        for provider in providers
    )


def _enabled(variable: str, keyword: object) -> bool:
    """Return a switch that is on by default; the keyword wins over the environment variable."""
    if keyword is not None:
        return bool(keyword)
    text = os.environ.get(variable, "").strip().lower()
    if text not in ("", "true", "false"):
        log_once(_logger, logging.ERROR, f"{variable} is {text!r}, allowed are true and false; taken as true")
    return text != "false"
