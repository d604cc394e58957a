"""Turn any Python value into one that every JSON and OTLP encoder takes.

OTLP encoders raise for a whole batch when one value in it is a Decimal, a
set, a lone surrogate or an integer beyond 64 bits, so a value is made safe
before it enters a pipeline that other exporters share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from enum import Enum
from itertools import islice
from typing import TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""What comes out: finite floats, integers of 64 bits, strings that encode as UTF-8."""

MAX_DEPTH = 24
"""Containers nested deeper are cut: a protobuf parser refuses 100 messages inside one another, and a map needs 3."""
MAX_NODES = 10_000
"""Values of one event; the rest is cut, so that no event can hold the memory or the time of its caller."""

_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1


def safe_text(value: str) -> str:
    """Return `value` as an exact str with lone surrogates written as escapes, since UTF-8 has no bytes for them."""
    if type(value) is not str:
        # A subclass may override anything, and orjson refuses one as a key.
        value = str.__str__(value)
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode(errors="backslashreplace").decode()
    return value


def describe(value: object) -> str:
    """Return ``str(value)`` as safe text, or the name of its type where that raises."""
    try:
        return safe_text(str(value))
    except Exception:  # noqa: BLE001  a user's __str__ may raise anything, and there is a text for that case
        return f"<{type(value).__name__}>"


def key_text(key: object) -> str:
    """Return a mapping's key as safe text: a string as it is (an enumeration's too), anything else described."""
    return safe_text(key) if isinstance(key, str) else describe(key)


def json_safe(value: object) -> JSON:
    """Return the nearest JSON value for `value`; it never raises.

    bytes become text, dates ISO 8601, sets sorted lists, enumerations their
    values, integers beyond 64 bits and everything unknown ``str(value)``.
    NaN and the infinities become the strings that protobuf's JSON mapping
    uses for them. Cycles and what is nested deeper than `MAX_DEPTH` become a
    note in brackets.
    """
    return _Walk().convert(value, 0)


class _Walk:
    """One conversion: the containers we are inside of, and the values that are left to spend."""

    __slots__ = ("inside", "left")

    def __init__(self) -> None:
        self.inside: set[int] = set()
        self.left = MAX_NODES

    def convert(self, value: object, depth: int) -> JSON:
        self.left -= 1
        kind = type(value)
        if kind is str:
            return safe_text(value)  # type: ignore[arg-type]
        if value is None or kind is bool or (kind is int and _MIN_INT <= value <= _MAX_INT):  # type: ignore[operator]
            return value  # type: ignore[return-value]
        try:
            return self._convert(value, depth)
        except Exception:  # noqa: BLE001  a proxy's __class__ or a subclass's method may raise anything
            return describe(value)

    def _convert(self, value: object, depth: int) -> JSON:
        if isinstance(value, Enum):
            return self.convert(value.value, depth + 1) if depth < MAX_DEPTH else describe(value)
        if isinstance(value, str):
            return safe_text(value)
        if isinstance(value, int):
            integer = int.__int__(value)
            return integer if _MIN_INT <= integer <= _MAX_INT else describe(integer)
        if isinstance(value, float):
            number = float.__float__(value)
            return number if math.isfinite(number) else _NON_FINITE[str(number)]
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value).decode(errors="backslashreplace")
        if isinstance(value, (datetime, date, time)):
            return value.isoformat()
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            return self._container(value, depth)
        return describe(value)

    def _container(self, value: Mapping[object, object] | Iterable[object], depth: int) -> JSON:
        if depth >= MAX_DEPTH:
            return "[nested too deep]"
        if id(value) in self.inside:
            return "[circular]"
        self.inside.add(id(value))
        try:
            if isinstance(value, Mapping):
                return self._mapping(value, depth)
            if isinstance(value, (set, frozenset)):
                return self._sequence(sorted(islice(value, self.left + 1), key=describe), depth)
            return self._sequence(value, depth)
        except Exception as error:  # noqa: BLE001  a user's container may raise anything while it is read
            return f"[unreadable: {type(error).__name__}]"
        finally:
            self.inside.discard(id(value))

    def _mapping(self, value: Mapping[object, object], depth: int) -> JSON:
        out: dict[str, JSON] = {}
        for key, item in value.items():
            if self.left <= 0:
                out["..."] = "[too many values]"
                break
            out[key_text(key)] = self.convert(item, depth + 1)
        return out

    def _sequence(self, value: Iterable[object], depth: int) -> JSON:
        out: list[JSON] = []
        for item in value:
            if self.left <= 0:
                out.append("[too many values]")
                break
            out.append(self.convert(item, depth + 1))
        return out


_NON_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
