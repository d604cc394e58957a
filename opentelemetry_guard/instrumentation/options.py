"""Settings of the instrumentation: keyword arguments first, then ``OTEL_PYTHON_GUARD_*``, then defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import orjson

from ..client_address import Network
from ..options import PREFIX, parse_interval, parse_networks, parse_switch, resolve_options
from .behavior_rules import BehaviorRules
from .http_rules import HttpRules

__all__ = ["NAMES", "PREFIX", "GuardOptions"]

Rules: TypeAlias = "Mapping[str, object]"


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """What the instrumentation does; each attribute is a keyword of `GuardInstrumentor.instrument`.

    Attributes:
        sigterm_handler: whether SIGTERM, SIGINT and SIGHUP shut telemetry down before they end the process.
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
        return cls(**resolve_options(_PARSERS, keywords, environ))  # type: ignore[arg-type]


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


_PARSERS: Mapping[str, Callable[[object], object]] = {
    "sigterm_handler": parse_switch,
    "http_events": parse_switch,
    "http_rules": _changes_to(HttpRules.resolve),
    "behavior": parse_switch,
    "behavior_rules": _changes_to(BehaviorRules.resolve),
    "trusted_proxies": parse_networks,
    "resource_metrics": parse_switch,
    "rules_interval": parse_interval,
}

NAMES = tuple(_PARSERS)
"""The options, each a keyword and with `PREFIX` and in upper case a variable."""
