"""Options of what runs inside an application: keyword arguments first, then ``OTEL_PYTHON_GUARD_*``, then defaults.

Each part names its options and their parsers; what several parts read is parsed here.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import os
from collections.abc import Callable, Mapping
from typing import TypeAlias

from .client_address import Network
from .once import log_once

_logger = logging.getLogger(__name__)

PREFIX = "OTEL_PYTHON_GUARD_"
"""What a variable's name begins with; the option's name in upper case follows."""

Parser: TypeAlias = "Callable[[object], object]"
"""Returns an option's value, or raises ValueError with what is allowed."""


def resolve_options(
    parsers: Mapping[str, Parser], keywords: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Return the options that are given, by a keyword that isn't None or by a variable that isn't blank.

    A wrong variable is logged once and counts as unset: an operator's mistake must not end the application.

    Args:
        parsers: the options, and how to read each.
        keywords: what code says; other names are ignored.
        environ: the environment; None is the process's.

    Raises:
        ValueError: a keyword has a value that it can't have.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    for name, parse in parsers.items():
        variable = PREFIX + name.upper()
        if (given := keywords.get(name)) is not None:
            values[name] = _parsed(name, given, parse)
        elif text := environ.get(variable, "").strip():
            try:
                values[name] = _parsed(variable, text, parse)
            except ValueError as error:
                log_once(_logger, logging.ERROR, f"{error}; the default is used")
    return values


def parse_switch(value: object) -> bool:
    """Read ``true`` or ``false``, in any case, or a boolean.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise ValueError("it must be true or false")
    return text == "true"


def parse_networks(value: object) -> tuple[Network, ...]:
    """Read addresses and networks, from a list or from text with commas.

    Raises:
        ValueError: there is something else among them.
    """
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)):
        raise ValueError("it must be addresses or networks, separated by commas")
    return tuple(ipaddress.ip_network(str(item).strip(), strict=False) for item in items if str(item).strip())


def parse_interval(value: object) -> float:
    """Read the seconds between two polls of dynamic rules; 0 is for none.

    Raises:
        ValueError: it is neither 0 nor from 1 to 86400.
    """
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = math.nan
    if not (seconds == 0 or 1 <= seconds <= 86_400):
        raise ValueError("it must be a number of seconds from 1 to 86400, or 0 for none")
    return seconds


def _parsed(name: str, value: object, parse: Parser) -> object:
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{name} is {value!r}, which can't be used: {error}") from None
