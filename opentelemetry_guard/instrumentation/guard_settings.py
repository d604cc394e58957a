"""What fastapi-guard's `SecurityConfig` says about delivery, taken for our own settings where nobody else has said.

=============================  ============================================================
field                          setting
=============================  ============================================================
agent_api_key                  `api_key`
agent_project_id               `project_id`
agent_endpoint                 `endpoint`; its default too where `enable_agent` is on
agent_buffer_size              `batch_size`: rows of one request at most. Nothing waits until they are together.
agent_flush_interval           how long an event waits for others at most: shortens the delay of the batch processors
                               of the Guard exporters, and never lengthens it
agent_enable_events            `enable_events`
agent_enable_metrics           `enable_metrics`
agent_timeout                  `timeout`
agent_retry_attempts           `retry_attempts`
agent_backoff_factor           `backoff_factor`
agent_compression_enabled      `compression`: ``gzip`` or ``none``
agent_compression_threshold    `compression_threshold`
agent_install_id               `install_id`
agent_payload_signing_secret   `signing_secret`
agent_project_encryption_key   `encryption_key`
agent_status_interval          `status_interval`
dynamic_rule_interval          seconds between two polls of rules, unless ``OTEL_PYTHON_GUARD_RULES_INTERVAL`` is set
agent_buffer_overflow_policy   `queue_overflow`: ``drop`` is ``drop_oldest``; ``block`` and ``raise``, which keep what
                               is there, are ``drop_newest``, because telemetry never holds up a request
agent_sensitive_headers        `sensitive_headers` of `privacy`
agent_max_payload_size         `max_payload_size` of `privacy`
agent_guard_version            none: the installed release is reported as it is
agent_high_watermark_ratio     none: what comes is sent at once, whatever waits
agent_max_concurrent_flushes   none: one request at a time, with as many rows as wait
agent_strict                   none: there is nothing that could fail
=============================  ============================================================

Only fields that the application has set count, so that fastapi-guard's
defaults change nothing. Keyword arguments and ``OTEL_EXPORTER_GUARD_*`` or
``OTEL_PYTHON_GUARD_*`` win over all of them (`late.offer`, `privacy.offer`).
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from opentelemetry._logs import get_logger_provider
from opentelemetry.sdk.environment_variables import OTEL_BLRP_SCHEDULE_DELAY, OTEL_BSP_SCHEDULE_DELAY
from opentelemetry.trace import get_tracer_provider

from .. import late, privacy
from ..config import GuardConfig, normalize_endpoint
from ..delivery import registry
from ..exporters.log import GuardLogExporter
from ..exporters.span import GuardSpanExporter
from ..once import log_once

_logger = logging.getLogger(__name__)

ORIGIN = "fastapi-guard's SecurityConfig"

_Convert = Callable[[Any], object]


def _same(value: Any) -> object:
    return value


_SETTINGS: Mapping[str, tuple[str, _Convert]] = {
    "agent_api_key": ("api_key", _same),
    "agent_project_id": ("project_id", _same),
    "agent_endpoint": ("endpoint", _same),
    "agent_buffer_size": ("batch_size", _same),
    "agent_enable_events": ("enable_events", _same),
    "agent_enable_metrics": ("enable_metrics", _same),
    "agent_timeout": ("timeout", _same),
    "agent_retry_attempts": ("retry_attempts", _same),
    "agent_backoff_factor": ("backoff_factor", _same),
    "agent_compression_enabled": ("compression", lambda enabled: "gzip" if enabled else "none"),
    "agent_compression_threshold": ("compression_threshold", _same),
    "agent_install_id": ("install_id", _same),
    "agent_payload_signing_secret": ("signing_secret", _same),
    "agent_project_encryption_key": ("encryption_key", _same),
    "agent_status_interval": ("status_interval", _same),
    "agent_buffer_overflow_policy": (
        "queue_overflow",
        lambda policy: "drop_oldest" if policy == "drop" else "drop_newest",
    ),
}
"""Fields of `SecurityConfig`, each with the attribute of `GuardConfig` that it sets and how its value is written."""

_PRIVACY: Mapping[str, str] = {
    "agent_sensitive_headers": "sensitive_headers",
    "agent_max_payload_size": "max_payload_size",
}
"""Fields of `SecurityConfig`, each with the setting of `privacy` that it makes."""

_NO_COUNTERPART: Mapping[str, str] = {
    "agent_high_watermark_ratio": "what is reported is sent at once, whatever waits",
    "agent_max_concurrent_flushes": "one request carries as many rows as wait",
}
"""Fields whose effect there is nothing here to have, and why."""


def chosen(config: Any) -> dict[str, object]:
    """Return the settings of `GuardConfig` that an application has made in its `SecurityConfig`, by name."""
    given = {
        setting: convert(getattr(config, field))
        for field, (setting, convert) in _SETTINGS.items()
        if _says(config, field)
    }
    if getattr(config, "enable_agent", False):
        # An agent that is on has a destination, said or not.
        given.setdefault("endpoint", getattr(config, "agent_endpoint", None))
    return given


def offer(config: Any) -> None:
    """Take what a `SecurityConfig` says for our settings where nobody else has said; it never raises."""
    settings = chosen(config)
    if settings:
        late.offer(ORIGIN, **settings)
    _offer_privacy(config)
    if _says(config, "agent_flush_interval"):
        _shorten_delays(config.agent_flush_interval)
    for field, why in _NO_COUNTERPART.items():
        if _says(config, field):
            log_once(_logger, logging.INFO, f"{ORIGIN}: {field} has no effect on Guard export: {why}")


def replaces_agent(config: Any) -> bool:
    """Whether our handler does all that the agent would do which the application has turned on.

    It does where a Guard exporter delivers to the same endpoint and project,
    or where the agent's package is not there to be the agent.
    """
    if not getattr(config, "enable_agent", False):
        return False
    if not is_installed("guard_agent"):
        return True
    try:
        endpoint = normalize_endpoint(config.agent_endpoint)
    except ValueError:  # theirs to complain about
        return False
    return any(ours.endpoint == endpoint and _is_same_project(config, ours) for ours in _destinations())


def _is_same_project(config: Any, ours: GuardConfig) -> bool:
    if config.agent_project_id or ours.project_id is None:
        return (config.agent_project_id or None) == ours.project_id
    # An agent that names no project writes to the one that its key belongs to.
    return bool(config.agent_api_key == ours.api_key)


def is_delivered() -> bool:
    """Whether a Guard exporter delivers what fastapi-guard reports."""
    return any(True for _ in _destinations())


def is_installed(package: str) -> bool:
    """Whether a package that has a member of its own name, as guard-agent has, can be imported."""
    loaded = sys.modules.get(package)
    return hasattr(loaded, package) if loaded is not None else importlib.util.find_spec(package) is not None


def rules_interval(config: Any, interval: float | None) -> float | None:
    """Return the seconds between two polls of rules: `interval` where it is not None, else what the application says.

    Args:
        config: fastapi-guard's `SecurityConfig`.
        interval: what the instrumentation's options say.
    """
    if interval is None and _says(config, "dynamic_rule_interval"):
        return float(config.dynamic_rule_interval)
    return interval


def _says(config: Any, field: str) -> bool:
    """Whether an application has set a field to something."""
    return field in getattr(config, "model_fields_set", ()) and getattr(config, field, None) not in (None, "")


def _offer_privacy(config: Any) -> None:
    said = {setting: getattr(config, field) for field, setting in _PRIVACY.items() if _says(config, field)}
    if not said:
        return
    try:
        privacy.offer(ORIGIN, **said)
    except ValueError as error:
        log_once(_logger, logging.ERROR, f"{error}. The setting is ignored")


def _destinations() -> Iterator[GuardConfig]:
    """Yield the settings of the deliveries of those Guard exporters that get events."""
    for delivery in registry.everyone():
        if registry.had_user(delivery, "logs") or registry.had_user(delivery, "traces"):
            yield delivery.config


def _shorten_delays(seconds: float) -> None:
    """Let nothing wait longer than `seconds` in the batch processors of the Guard exporters.

    An application that set a longer time said what it can wait for, and not that it wants to; so no delay grows.
    """
    for provider, variable in (
        (get_logger_provider(), OTEL_BLRP_SCHEDULE_DELAY),
        (get_tracer_provider(), OTEL_BSP_SCHEDULE_DELAY),
    ):
        if os.environ.get(variable, "").strip():
            continue
        for processor in _processors(provider):
            batch = getattr(processor, "_batch_processor", None)
            # The worker reads the delay whenever it begins to wait.
            if batch is not None and _is_guards(batch) and 0 < seconds < getattr(batch, "_schedule_delay", 0):
                batch._schedule_delay = seconds


# The SDK has no public way to what follows. Where it keeps these elsewhere one day, delays stay as they are.


def _processors(provider: object) -> tuple[Any, ...]:
    """Return the processors of an SDK provider, none of any other."""
    logs = getattr(provider, "_multi_log_record_processor", None)
    spans = getattr(provider, "_active_span_processor", None)
    return tuple(getattr(logs, "_log_record_processors", ())) + tuple(getattr(spans, "_span_processors", ()))


def _is_guards(batch: object) -> bool:
    return isinstance(getattr(batch, "_exporter", None), (GuardLogExporter, GuardSpanExporter))
