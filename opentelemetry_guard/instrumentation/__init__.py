"""The instrumentor that ``opentelemetry-instrument`` loads.

Usage without code::

    opentelemetry-instrument uvicorn main:app

or by hand, after the providers were set::

    from opentelemetry_guard.instrumentation import GuardInstrumentor

    GuardInstrumentor().instrument(trusted_proxies=["10.0.0.0/8"])

What it does, each part in a module of its own and none of it before the
application imports what it is about:

- `fastapi_guard`: what fastapi-guard reports becomes security events, and dynamic rules reach it.
- `http`: the answers of FastAPI and Starlette applications become security events, and clients are watched over time
  (`behavior`). At the end of an application's lifespan, telemetry is flushed.
- `opentelemetry_guard.privacy`: secrets are masked in what the HTTP stack itself records, whoever exports it.
- `idle_spans`, `idle_records`: spans and log records without a security event are not queued for an exporter that looks
  for nothing else.
- `resources`: CPU, memory and the event loop's lag, where that is switched on.
- `opentelemetry_guard.process`: SIGTERM shuts telemetry down before it ends the process. uvicorn needs this: it raises
  the signal again when it has stopped, and no ``atexit`` handler runs then. The ends of child processes are followed
  as well.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry._logs import get_logger_provider
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from opentelemetry.metrics import get_meter_provider
from opentelemetry.trace import get_tracer_provider

from ..privacy import logs as log_privacy
from ..privacy import spans as span_privacy
from ..process import children as process_children
from ..process import end as process_end
from ..process import signals as termination
from ..settings.instrumentation import GuardOptions
from ..settings.once import log_once
from ..settings.privacy import PrivacySettings
from . import fastapi_guard, http, idle_records, idle_spans, resources

if TYPE_CHECKING:
    from ..emit import Emitter

__all__ = ["GuardInstrumentor"]

_logger = logging.getLogger(__name__)

_PRIVACY = "opentelemetry_guard.privacy.process"
_PROVIDERS = ("tracer_provider", "logger_provider", "meter_provider")


class GuardInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # the base is untyped
    """Prepares a process for security telemetry.

    `instrument` takes the attributes of `GuardOptions` and of
    `opentelemetry_guard.privacy.PrivacySettings`, and `tracer_provider`,
    `logger_provider` and `meter_provider` in the place of the global ones. A
    keyword wins over its variable ``OTEL_PYTHON_GUARD_<NAME>``. A second
    `instrument` changes nothing.

    .. versionadded:: 1.0
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return what has to be installed: nothing."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        _refuse_unknown(kwargs)
        providers = {name: kwargs.pop(name, None) for name in _PROVIDERS}
        options = GuardOptions.resolve(**{name: kwargs.pop(name) for name in GuardOptions.settings() if name in kwargs})
        _configure_privacy(kwargs)
        if not any(providers.values()) and _no_provider():
            log_once(
                _logger,
                logging.WARNING,
                "OpenTelemetry has no SDK providers, so nothing is recorded: install a distro for "
                "opentelemetry-instrument (pip install 'opentelemetry-guard[auto]'), or set providers in code first",
            )
        process_children.follow()
        for provider in _given(providers):
            process_end.follow_provider(provider)
        self._providers = _given(providers)
        if options.sigterm_handler:
            termination.install()
            termination.follow_uvicorn()
        emitter = _emitter(providers)
        span_privacy.install(providers["tracer_provider"])
        log_privacy.install(providers["logger_provider"])
        idle_spans.install(providers["tracer_provider"])
        idle_records.install(providers["logger_provider"])
        resources.install(options, providers["meter_provider"])
        fastapi_guard.install(options, emitter)
        http.install(options, emitter)

    def _uninstrument(self, **kwargs: Any) -> None:
        http.uninstall()
        fastapi_guard.uninstall()
        resources.uninstall()
        idle_spans.uninstall()
        idle_records.uninstall()
        span_privacy.uninstall()
        log_privacy.uninstall()
        termination.unfollow_uvicorn()
        termination.uninstall()
        for provider in self._providers:
            process_end.unfollow_provider(provider)
        _configure_privacy({})


def _refuse_unknown(keywords: Mapping[str, object]) -> None:
    known = {*_PROVIDERS, *GuardOptions.settings(), *PrivacySettings.settings()}
    if unknown := sorted(set(keywords) - known):
        raise TypeError(
            f"instrument has no setting {', '.join(map(repr, unknown))}; the settings are {', '.join(sorted(known))}"
        )


def _given(providers: dict[str, Any]) -> list[Any]:
    return [provider for provider in providers.values() if provider is not None]


# What these two import, a process that emits nothing is spared.
def _configure_privacy(keywords: dict[str, Any]) -> None:
    if keywords or _PRIVACY in sys.modules:
        from .. import privacy

        privacy.configure(**keywords)


def _emitter(providers: dict[str, Any]) -> Emitter | None:
    if not any(providers.values()):
        return None
    from ..emit import Emitter

    return Emitter(**providers)


def _no_provider() -> bool:
    """Whether all three global providers are the API's own, which record nothing."""
    providers = (get_tracer_provider(), get_logger_provider(), get_meter_provider())
    return all(
        type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry._logs", "opentelemetry.metrics"))
        for provider in providers
    )
