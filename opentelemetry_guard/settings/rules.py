"""Rules with defaults, of which a JSON object changes some: how they are declared, and how changes are read.

Rules are a frozen dataclass whose fields are made by `rule`, `group`, `entries` and `table`, each with its default and
parsers of `values`. A change names the field. ``true`` stands for the default and ``false`` or ``null`` for "off",
where there is such a thing; a list takes a list in its place, or ``{"add": [...], "remove": [...]}``. What means
nothing is refused with its name, its value and what would be right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from . import values

_Value = TypeVar("_Value")
_Key = TypeVar("_Key")
_Rules = TypeVar("_Rules")

_PARSER = "parser"


class _RefusedError(ValueError):
    """The text begins with what stands behind the name of the rules: ``.count is 1, it must be ...``."""


def rule(default: _Value, parse: Callable[[object], _Value]) -> _Value:
    """Declare a rule as a field of a dataclass.

    Args:
        default: its value where nothing changes it.
        parse: reads and checks a change; it raises ValueError with what is allowed.
    """
    found: _Value = dataclasses.field(default_factory=lambda: default, metadata={_PARSER: parse})
    return found


def changed(kind: type[_Rules], changes: Mapping[str, object], name: str) -> _Rules:
    """Return the default rules of a dataclass with `changes`.

    Args:
        kind: the dataclass.
        changes: by the names of its fields.
        name: of the setting, for messages.

    Raises:
        ValueError: a rule or a value is not one that there is.
    """
    try:
        return _changed(kind, changes)
    except _RefusedError as error:
        raise ValueError(f"{name}{error}") from None


def _changed(kind: type[_Rules], changes: Mapping[Any, object]) -> _Rules:
    parsers = {field.name: field.metadata[_PARSER] for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := [name for name in changes if name not in parsers]:
        raise _RefusedError(f" has the key {unknown[0]!r}, allowed are {', '.join(parsers)}")
    return kind(**{name: _parsed(f".{name}", value, parsers[name]) for name, value in changes.items()})


def _parsed(name: str, value: object, parse: Callable[[object], _Value]) -> _Value:
    try:
        return parse(value)
    except _RefusedError as error:
        raise _RefusedError(f"{name}{error}") from None
    except ValueError as error:
        raise _RefusedError(f"{name} is {value!r}, {error}") from None


def switch(value: object) -> bool:
    """Read a switch; ``null`` is off."""
    return value is not None and values.switch(value)


def group(kind: type[_Rules]) -> _Rules | None:
    """Declare rules within rules, which may be off."""

    def parse(value: object) -> _Rules | None:
        if value is None or value is False:
            return None
        if value is True:
            return kind()
        if not isinstance(value, Mapping):
            first = dataclasses.fields(kind)[0].name  # type: ignore[arg-type]
            example = f'{{"{first}": {getattr(kind(), first)}}}'
            raise ValueError(f"it must be an object such as {example}, true (the default), or false or null for none")
        return _changed(kind, value)

    default: _Rules | None = kind()
    return rule(default, parse)


def entries(default: tuple[_Value, ...], item: Callable[[object], _Value]) -> tuple[_Value, ...]:
    """Declare a list, which takes a new one, or what is added to and removed from the default one."""

    def parse(value: object) -> tuple[_Value, ...]:
        if value is True:
            return default
        if value is None or value is False:
            return ()
        if isinstance(value, Mapping) and value.keys() <= {"add", "remove"}:
            add, remove = (_parsed(f".{name}", value.get(name, ()), listed) for name in ("add", "remove"))
            if unknown := [each for each in remove if each not in default]:
                raise _RefusedError(f".remove has {unknown[0]!r}, which is not in the default list")
            return tuple(dict.fromkeys((*(each for each in default if each not in remove), *add)))
        if not isinstance(value, (list, tuple)):
            changes = '{"add": [...], "remove": [...]}'
            raise ValueError(f"it must be a list like {[default[0]]}, {changes}, true (the default) or false")
        return listed(value)

    def listed(value: object) -> tuple[_Value, ...]:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"it must be a list like {[default[0]]}")
        return tuple(map(checked, value))

    def checked(each: object) -> _Value:
        try:
            return item(each)
        except ValueError as error:
            raise _RefusedError(f" has {each!r}, {error}") from None

    return rule(default, parse)


def table(
    default: Mapping[_Key, _Value], key: Callable[[Any], _Key], item: Callable[[object], _Value]
) -> Mapping[_Key, _Value]:
    """Declare a table, which takes changes: ``null`` takes an entry out, ``false`` in the table's place all of it."""

    def parse(value: object) -> Mapping[_Key, _Value]:
        if value is None or isinstance(value, bool):
            return default if value else MappingProxyType({})
        if not isinstance(value, Mapping):
            first, example = next(iter(default.items()))
            raise ValueError(f'it must be an object such as {{"{first}": {example!r}}}')
        found = dict(default)
        for name, given in value.items():
            entry = named(name)
            if given is None or given is False:
                found.pop(entry, None)
            else:
                found[entry] = _parsed(f".{name}", given, item)
        return MappingProxyType(found)

    def named(name: object) -> _Key:
        try:
            return key(name)
        except ValueError as error:
            raise _RefusedError(f" has the key {name!r}, {error}") from None

    return rule(default, parse)
