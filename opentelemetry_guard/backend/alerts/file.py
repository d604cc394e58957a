"""The file of alerts: TOML or JSON, and what is wrong with it in the words of whoever has written it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator
from typing_extensions import Self

from .channels import ChannelSettings, HttpUrl
from .rules import Name, Rule, Seconds, Strict

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MAX_BYTES = 1024 * 1024

_MOST_TOLD = 5
"""Mistakes that one error names."""


class AlertsError(ValueError):
    """The file of alerts can't be used; the text says where in it, and why."""


class Alerts(Strict):
    """Everything that the file says.

    Attributes:
        rules: what is to be told.
        channels: by which ways, each with its name.
        every: seconds between two looks at what is stored.
        dashboard: the dashboard's address as people reach it, so that notifications have links.
    """

    rules: tuple[Rule, ...] = Field(max_length=200)
    channels: dict[Name, ChannelSettings] = Field(default_factory=dict, max_length=20)
    every: Seconds = Field(default=15, ge=1, le=60)
    dashboard: HttpUrl | None = None

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        twice = [name for name, times in Counter(rule.name for rule in self.rules).items() if times > 1]
        if twice:
            raise ValueError(f"two rules are called “{twice[0]}”: alerts are told apart by the rule's name")
        for rule in self.rules:
            if unknown := [name for name in rule.channels if name not in self.channels]:
                known = ", ".join(self.channels) or "none"
                raise ValueError(f"rule “{rule.name}”: there is no channel “{unknown[0]}” (there is: {known})")
        return self

    def channels_of(self, rule_name: str) -> list[str]:
        """Return the channels that tell of a rule, none where it is not one of these."""
        rule = next((rule for rule in self.rules if rule.name == rule_name), None)
        return [] if rule is None else list(rule.channels or self.channels)


def read_alerts(path: Path) -> Alerts:
    """Read a file, whose name ends in ``.toml`` or ``.json``.

    Raises:
        AlertsError: it can't be read, or says what can't be meant; the text repeats no secret.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise AlertsError(f"The file of alerts {path} can't be read: {error.strerror}.") from None
    if len(content) > _MAX_BYTES:
        raise AlertsError(f"The file of alerts {path} is larger than {_MAX_BYTES} bytes.")
    parse = {".toml": tomllib.loads, ".json": json.loads}.get(path.suffix.lower())
    if parse is None:
        raise AlertsError(f"The file of alerts {path} must be called something.toml or something.json.")
    try:
        given = parse(content.decode())
    except (ValueError, RecursionError) as error:
        raise AlertsError(f"The file of alerts {path} can't be read: {error}.") from None
    try:
        return Alerts.model_validate(given)
    except ValidationError as error:
        told = list(_told(error, given))
        more = [f"and {len(told) - _MOST_TOLD} more mistakes"] if len(told) > _MOST_TOLD else []
        raise AlertsError(f"The file of alerts {path}: {'; '.join([*told[:_MOST_TOLD], *more])}.") from None


def _told(error: ValidationError, given: Any) -> Iterator[str]:
    for one in error.errors(include_url=False, include_context=False):
        place, message = list(one["loc"]), one["msg"].removeprefix("Value error, ")
        yield f"{_where(place, given)}{message[:1].lower()}{message[1:]}{_value(place, one['input'])}"


def _where(place: list[int | str], given: Any) -> str:
    """Name the rule or channel that a mistake is in, by what the file calls it."""
    named = ""
    if len(place) > 1 and place[0] == "rules" and isinstance(place[1], int):
        rule = given["rules"][place[1]]
        name = rule.get("name") if isinstance(rule, Mapping) else None
        number = f"rule {place[1] + 1}"
        named = f"rule “{name}”: " if isinstance(name, str) and len(name) <= 80 else f"{number}: "
    elif len(place) > 1 and place[0] == "channels":
        named = f"channel “{place[1]}”: "
    # The third step is the kind, by which the model was chosen.
    steps = ".".join(map(str, place[3:] if named else place))
    return named + (f"{steps}: " if steps else "")


def _value(place: list[int | str], value: object) -> str:
    """Quote a wrong value that can't hold a secret: a short one of a field that is none."""
    if not place or place[-1] in ("secret", "password", "url") or not isinstance(value, str | int | float | bool):
        return ""
    text = repr(value)
    return f" (it is {text})" if len(text) <= 60 else ""
