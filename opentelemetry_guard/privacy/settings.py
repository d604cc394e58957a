"""Settings of privacy: keyword arguments, then ``OTEL_PYTHON_GUARD_*``, then settings that arrive late, then defaults.

A wrong variable is logged once and the safe default takes its place: an
operator's mistake must neither end the application nor let anything out.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ..models import SecurityEvent
from ..once import log_once
from ..options import parse_switch
from .sensitive_names import DEFAULT_HEADERS

_logger = logging.getLogger(__name__)

PREFIX = "OTEL_PYTHON_GUARD_"
DEFAULT_MAX_PAYLOAD_SIZE = 1024

Processor: TypeAlias = "Callable[[SecurityEvent], SecurityEvent | Mapping[str, object] | None]"
"""A user's hook: an event in; it, another one or a mapping of fields out, or None to drop it."""


@dataclass(frozen=True, slots=True)
class PrivacySettings:
    """What is masked, shortened, hashed and left out.

    Attributes:
        sensitive_headers: names of headers whose values are masked; they take the place of the default list, the
            fields of `sensitive_names.FIELDS` are masked in any case.
        max_payload_size: bytes of UTF-8 that one string of an event may have, at least 1.
        address_key: secret that client addresses are hashed with; None leaves them as they are.
        capture_content: whether events quote what matched a pattern.
        processors: the user's hooks, in the order in which they are called.
    """

    sensitive_headers: frozenset[str] = DEFAULT_HEADERS
    max_payload_size: int = DEFAULT_MAX_PAYLOAD_SIZE
    address_key: str | None = field(default=None, repr=False)
    capture_content: bool = False
    processors: tuple[Processor, ...] = ()

    @classmethod
    def resolve(
        cls,
        environ: Mapping[str, str] | None = None,
        late: Mapping[str, object] | None = None,
        /,
        **keywords: object,
    ) -> PrivacySettings:
        """Return what keyword arguments, the environment, late settings and the defaults make together.

        Args:
            environ: the environment; None is the process's.
            late: settings that lose against the environment (an agent's configuration).
            **keywords: the attributes; None is not given.

        Raises:
            ValueError: a keyword or a late setting has a value that it can't have.
            TypeError: there is no such setting.
        """
        environ = os.environ if environ is None else environ
        late = late or {}
        if unknown := sorted((keywords.keys() | late.keys()) - _PARSERS.keys()):
            raise TypeError(f"unknown privacy setting {unknown[0]!r}, allowed are {', '.join(_PARSERS)}")
        late = {name: _parsed(name, given, _PARSERS[name]) for name, given in late.items() if given is not None}
        values: dict[str, object] = {}
        for name, parse in _PARSERS.items():
            variable = PREFIX + name.upper()
            if (given := keywords.get(name)) is not None:
                values[name] = _parsed(name, given, parse)
            elif name in _VARIABLES and _is_set(name, text := environ.get(variable, "")):
                try:
                    values[name] = _parsed(variable, text, parse)
                except ValueError as error:
                    values[name] = _safe_default(name)
                    log_once(_logger, logging.ERROR, f"{error}; {_INSTEAD.get(name, 'the default is used')}")
            elif name in late:
                values[name] = late[name]
        return cls(**values)  # type: ignore[arg-type]


def _is_set(name: str, text: str) -> bool:
    """Whether a variable counts as given: blank text does not, but a blank secret is a mistake."""
    return bool(text if name == "address_key" else text.strip())


def _safe_default(name: str) -> object:
    # Who wants addresses hashed must not get them in the clear because of a slip.
    return secrets.token_hex(32) if name == "address_key" else getattr(_DEFAULTS, name)


def _parsed(name: str, value: object, parse: Callable[[object], object]) -> object:
    try:
        return parse(value)
    except ValueError as error:
        shown = "has a value that can't be used" if name.lower().endswith("address_key") else f"is {value!r}"
        raise ValueError(f"{name} {shown}: {error}") from None


def _headers(value: object) -> frozenset[str]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, Iterable) or isinstance(items, (bytes, Mapping)):
        raise ValueError("it must be names of headers, as a list or separated by commas")
    names = list(items)
    if not all(isinstance(name, str) for name in names):
        raise ValueError("it must be names of headers, each of them text")
    found = frozenset(name.strip().lower() for name in names if name.strip())
    if isinstance(value, str) and not found:
        raise ValueError("it must be at least one name of a header")
    return found


def _size(value: object) -> int:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 1 <= number <= 2**30 or number != int(number):
        raise ValueError("it must be a whole number of bytes, at least 1 and at most 1073741824")
    return int(number)


def _key(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("it must be text that is not blank; leave it unset to keep addresses as they are")
    return value.strip()


def _processors(value: object) -> tuple[Processor, ...]:
    if not isinstance(value, (list, tuple)) or not all(callable(item) for item in value):
        raise ValueError("it must be a list of functions that take an event and return it, another one or None")
    return tuple(value)


_PARSERS: Mapping[str, Callable[[object], object]] = {
    "sensitive_headers": _headers,
    "max_payload_size": _size,
    "address_key": _key,
    "capture_content": parse_switch,
    "processors": _processors,
}
_VARIABLES = _PARSERS.keys() - {"processors"}
_DEFAULTS = PrivacySettings()
_INSTEAD = {
    "address_key": "addresses are hashed under a key that nobody knows until it is set right",
}
