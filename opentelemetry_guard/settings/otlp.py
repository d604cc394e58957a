"""The standard variables of OTLP exporters, ``OTEL_EXPORTER_OTLP_*``, with those of one signal before those of all.

Source: OpenTelemetry specification, "OpenTelemetry Protocol Exporter", and the SDK's own OTLP/HTTP exporter.
A value that can't be read is left out, and said once without being quoted where it may be a secret.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import unquote

from .once import log_once

_logger = logging.getLogger(__name__)

Signal = Literal["traces", "logs", "metrics"]
KINDS: Mapping[str, Signal] = {"spans": "traces", "logs": "logs", "points": "metrics"}
"""What the rows of a signal are called in a queue, in the order in which they are sent."""
SIGNALS: tuple[Signal, ...] = tuple(KINDS.values())

DEFAULT_ENDPOINT = "http://localhost:4318"
DEFAULT_TIMEOUT = 10.0

_PREFIX = "OTEL_EXPORTER_OTLP_"
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ENCODED = re.compile(r'[^ ",;\\]*')


def variable(signal: Signal, name: str) -> str | None:
    """Return the variable that says something, None where none does: a signal's own comes first."""
    for found in (f"{_PREFIX}{signal.upper()}_{name}", f"{_PREFIX}{name}"):
        if os.environ.get(found, "").strip():
            return found
    return None


def text(signal: Signal, name: str) -> str | None:
    """Return what a variable says, None where it is not set or blank."""
    found = variable(signal, name)
    return os.environ[found].strip() if found else None


def path_of(signal: Signal) -> str:
    """Return what comes after the base URL where the signal has no endpoint of its own."""
    return f"/v1/{signal}"


def url(signal: Signal) -> str:
    """Return the whole URL of a signal's requests."""
    found = variable(signal, "ENDPOINT")
    given = os.environ[found].strip() if found else DEFAULT_ENDPOINT
    return given if found == f"{_PREFIX}{signal.upper()}_ENDPOINT" else given.removesuffix("/") + path_of(signal)


def timeout(signal: Signal) -> float:
    """Return the seconds that one request may take."""
    found = variable(signal, "TIMEOUT")
    try:
        seconds = float(os.environ[found]) if found else DEFAULT_TIMEOUT
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        log_once(_logger, logging.WARNING, f"{found} is no number of seconds up to 3600: {DEFAULT_TIMEOUT:g} is used")
        return DEFAULT_TIMEOUT
    return seconds


def compression(signal: Signal) -> str:
    """Return ``gzip``, ``deflate`` or ``none``."""
    given = (text(signal, "COMPRESSION") or "none").lower()
    if given not in ("gzip", "deflate", "none"):
        found = variable(signal, "COMPRESSION")
        log_once(_logger, logging.WARNING, f"{found} is neither gzip nor deflate nor none: nothing is compressed")
        return "none"
    return given


def headers(signal: Signal) -> Mapping[str, str]:
    """Return the request headers that are set at this moment, with names in lower case."""
    found: dict[str, str] = {}
    parts = [part.strip() for part in (text(signal, "HEADERS") or "").split(",") if part.strip()]
    for position, part in enumerate(parts, 1):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        # As the SDK reads them: a value with signs that are never left in an encoded one is taken as it stands.
        if _ENCODED.fullmatch(value):
            name, value = unquote(name), unquote(value).strip()
        if equals and _NAME.fullmatch(name) and value.isascii() and (value.isprintable() or not value):
            found[name.lower()] = value
        else:
            what = f"{variable(signal, 'HEADERS')}: header {position} of {len(parts)} is no name=value, and is left out"
            log_once(_logger, logging.WARNING, what)
    return found
