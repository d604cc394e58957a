"""Settings of the instrumentation: keyword arguments first, then ``OTEL_PYTHON_GUARD_*``, then defaults."""

from __future__ import annotations

import ipaddress
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import orjson

from ..client_address import Network
from ..once import log_once
from .behavior_rules import BehaviorRules
from .http_rules import HttpRules

_logger = logging.getLogger(__name__)

PREFIX = "OTEL_PYTHON_GUARD_"

Rules: TypeAlias = "Mapping[str, object]"


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """What the instrumentation does; each attribute is a keyword of `GuardInstrumentor.instrument`.

    Attributes:
        sigterm_handler: whether SIGTERM and SIGINT shut telemetry down before they end the process.
        http_events: whether security events are derived from the answers of an application (`http_rules`).
        http_rules: changes to the rules of what an answer means; a JSON object or the path of a JSON file.
        behavior: whether clients' behaviour is analysed over time (`behavior`).
        behavior_rules: changes to the thresholds of that analysis; a JSON object or the path of a JSON file.
        trusted_proxies: networks whose ``X-Forwarded-For`` names the client; none by default.
        resource_metrics: whether CPU, memory, threads, open files and the event loop's lag are measured.
        rules_interval: seconds between two polls of dynamic rules, at least 1; 0 polls none. None is unset: 300
            seconds, as soon as somebody enforces rules.
    """

    sigterm_handler: bool = True
    http_events: bool = True
    http_rules: Rules | None = None
    behavior: bool = True
    behavior_rules: Rules | None = None
    trusted_proxies: tuple[Network, ...] = ()
    resource_metrics: bool = False
    rules_interval: float | None = None

    @classmethod
    def resolve(cls, environ: Mapping[str, str] | None = None, /, **keywords: object) -> GuardOptions:
        """Return what keyword arguments, the environment and the defaults make together.

        A wrong variable is logged once and counts as unset: an operator's mistake must not end the application.

        Raises:
            ValueError: a keyword has a value that it can't have.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, object] = {}
        for name, parse in _PARSERS.items():
            variable = PREFIX + name.upper()
            if (given := keywords.get(name)) is not None:
                values[name] = _parsed(name, given, parse)
            elif text := environ.get(variable, "").strip():
                try:
                    values[name] = _parsed(variable, text, parse)
                except ValueError as error:
                    log_once(_logger, logging.ERROR, f"{error}; the default is used")
        return cls(**values)  # type: ignore[arg-type]


def _parsed(name: str, value: object, parse: Callable[[object], object]) -> object:
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{name} is {value!r}, which can't be used: {error}") from None


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise ValueError("it must be true or false")
    return text == "true"


def _rules(value: object) -> Rules:
    if isinstance(value, str):
        value = _loaded(value)
    if not isinstance(value, Mapping):
        raise ValueError("it must be a JSON object, or the path of a file that holds one")
    return value


def _changes_to(resolve: Callable[[Rules], object]) -> Callable[[object], Rules]:
    """Make a parser that refuses what the rules themselves refuse, before anything is instrumented."""

    def parse(value: object) -> Rules:
        rules = _rules(value)
        resolve(rules)
        return rules

    return parse


def _loaded(text: str) -> object:
    try:
        return orjson.loads(text if text.lstrip().startswith("{") else Path(text).expanduser().read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ValueError(f"it must be a JSON object, or the path of a file that holds one ({error})") from None


def _networks(value: object) -> tuple[Network, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)):
        raise ValueError("it must be addresses or networks, separated by commas")
    return tuple(ipaddress.ip_network(str(item).strip(), strict=False) for item in items if str(item).strip())


def _interval(value: object) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = math.nan
    if not (seconds == 0 or 1 <= seconds <= 86_400):
        raise ValueError("it must be a number of seconds from 1 to 86400, or 0 for none")
    return seconds


_PARSERS: Mapping[str, Callable[[object], object]] = {
    "sigterm_handler": _switch,
    "http_events": _switch,
    "http_rules": _changes_to(HttpRules.resolve),
    "behavior": _switch,
    "behavior_rules": _changes_to(BehaviorRules.resolve),
    "trusted_proxies": _networks,
    "resource_metrics": _switch,
    "rules_interval": _interval,
}

NAMES = tuple(_PARSERS)
"""The options, each a keyword and with `PREFIX` and in upper case a variable."""
