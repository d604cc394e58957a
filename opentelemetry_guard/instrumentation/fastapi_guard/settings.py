"""What fastapi-guard's `SecurityConfig` says about delivery, taken for our own settings where nobody else has said.

Which field becomes which setting stands where that setting is declared (``agent=`` in `settings`). Besides:

- `agent_endpoint` counts with its default too where `enable_agent` is on.
- `agent_flush_interval` is how long an event waits for others at most: it shortens the delay of the batch processors of
  the Guard exporters, and never lengthens it.
- `agent_strict` and the fields of `NO_COUNTERPART` have no effect.

Only fields that the application has set count, so that fastapi-guard's
defaults change nothing. Keyword arguments and ``OTEL_EXPORTER_GUARD_*`` or
``OTEL_PYTHON_GUARD_*`` win over all of them (`late.offer`).
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from opentelemetry._logs import get_logger_provider
from opentelemetry.sdk.environment_variables import OTEL_BLRP_SCHEDULE_DELAY, OTEL_BSP_SCHEDULE_DELAY
from opentelemetry.trace import get_tracer_provider

from ...settings import in_use, late
from ...settings.agent import says, settings_of_security
from ...settings.delivery import GuardConfig
from ...settings.once import log_once
from ...settings.values import base_url

_logger = logging.getLogger(__name__)

ORIGIN = "fastapi-guard's SecurityConfig"

NO_COUNTERPART: Mapping[str, str] = {
    "agent_high_watermark_ratio": "what is reported is sent at once, whatever waits",
    "agent_max_concurrent_flushes": "one request carries as many rows as wait",
}
"""Fields whose effect there is nothing here to have, and why."""


def chosen(config: Any) -> dict[str, object]:
    """Return the settings that an application has made in its `SecurityConfig`, by name."""
    given = settings_of_security(config)
    if getattr(config, "enable_agent", False):
        # An agent that is on has a destination, said or not.
        given.setdefault("endpoint", getattr(config, "agent_endpoint", None))
    return given


def offer(config: Any) -> None:
    """Take what a `SecurityConfig` says for our settings where nobody else has said; it never raises."""
    settings = chosen(config)
    if settings:
        late.offer(ORIGIN, **settings)
    if says(config, "agent_flush_interval"):
        _shorten_delays(config.agent_flush_interval)
    for field, why in NO_COUNTERPART.items():
        if says(config, field):
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
        endpoint = base_url(config.agent_endpoint)
    except ValueError:  # theirs to complain about
        return False
    return any(ours.endpoint == endpoint and _is_same_project(config, ours) for ours in in_use.event_deliveries())


def _is_same_project(config: Any, ours: GuardConfig) -> bool:
    if config.agent_project_id or ours.project_id is None:
        return (config.agent_project_id or None) == ours.project_id
    # An agent that names no project writes to the one that its key belongs to.
    return bool(config.agent_api_key == ours.api_key)


def is_delivered() -> bool:
    """Whether a Guard exporter delivers what fastapi-guard reports."""
    return bool(in_use.event_deliveries())


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
    if interval is None and says(config, "dynamic_rule_interval"):
        return float(config.dynamic_rule_interval)
    return interval


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
            if (
                batch is not None
                and isinstance(getattr(batch, "_exporter", None), in_use.EventExporter)
                and 0 < seconds < getattr(batch, "_schedule_delay", 0)
            ):
                batch._schedule_delay = seconds


# The SDK has no public way to what follows. Where it keeps these elsewhere one day, delays stay as they are.


def _processors(provider: object) -> tuple[Any, ...]:
    """Return the processors of an SDK provider, none of any other."""
    logs = getattr(provider, "_multi_log_record_processor", None)
    spans = getattr(provider, "_active_span_processor", None)
    return tuple(getattr(logs, "_log_record_processors", ())) + tuple(getattr(spans, "_span_processors", ()))
