"""What somebody can want to be told of, as data: one model for each kind of rule."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Band = Literal["high", "medium", "low"]
"""A name of `events.known.BANDS`."""

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9}) ?(s|min|m|h|d)")


def read_duration(value: object) -> object:
    """Return the seconds of ``90s``, ``5m``, ``2h`` or ``7d``; anything but a text as it is.

    Raises:
        ValueError: it is another text.
    """
    if not isinstance(value, str):
        return value
    found = _DURATION.fullmatch(value.strip())
    if found is None:
        raise ValueError("write a duration such as 90s, 5m, 2h or 7d")
    return int(found[1]) * _UNITS[found[2]]


Seconds = Annotated[int, BeforeValidator(read_duration)]
"""A duration in whole seconds, also written as ``90s``, ``5m``, ``2h`` or ``7d``."""

Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""What people call a rule or a channel."""

LONGEST_WINDOW = 86_400
"""Seconds."""


class Strict(BaseModel):
    """A part of the file of alerts: what it doesn't know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class _Rule(Strict):
    """What all rules have.

    Attributes:
        name: what its alerts are called by; each rule has another one.
        severity: how urgent its alerts are.
        channels: the names of the channels that tell of it; none are all of them.
        project: the project that it looks at; None looks at each by itself.
        most_per_hour: notifications of it in an hour, of each channel; the alerts beyond are counted in the next one.
        closes_after: seconds after which an alert closes by itself whose cause is gone.
    """

    name: Name
    severity: Band = "medium"
    channels: tuple[Name, ...] = ()
    project: str | None = None
    most_per_hour: int = Field(6, ge=1, le=60)
    closes_after: Seconds = Field(3_600, ge=60, le=30 * 86_400)


class EventsRule(_Rule):
    """At least `threshold` events within `window` seconds.

    They are those of an `event_type` (one that ends in ``*`` is a beginning) and at least as severe as
    `least_severity`, where these are given; of `blocked` true or false, only those that were stopped, or were not.
    """

    when: Literal["events"]
    event_type: str | None = None
    least_severity: Band | None = None
    blocked: bool | None = None
    threshold: int = Field(ge=1)
    window: Seconds = Field(ge=60, le=LONGEST_WINDOW)


class IncidentRule(_Rule):
    """What one client goes on with: an incident with so many requests, so severe, and of such a threat score."""

    when: Literal["incident"]
    least_severity: Band = "high"
    least_score: int = Field(0, ge=0, le=100)
    requests: int = Field(1, ge=1)


class NewPlaceRule(_Rule):
    """A user comes from an address, or a country, that none of its events has come from."""

    when: Literal["new_address", "new_country"]


class SilentAgentRule(_Rule):
    """An installation has reported nothing `after` so many seconds; one that is `gone_after` is not expected back."""

    when: Literal["agent_silent"]
    after: Seconds = Field(900, ge=60, le=7 * 86_400)
    gone_after: Seconds = Field(7 * 86_400, ge=120, le=90 * 86_400)


class AgentTroubleRule(_Rule):
    """An installation reports that rows have become dead letters, or that a circuit breaker is open."""

    when: Literal["dead_letters", "breaker_open"]


Rule = Annotated[
    EventsRule | IncidentRule | NewPlaceRule | SilentAgentRule | AgentTroubleRule, Field(discriminator="when")
]
"""Any rule, told apart by its `when`."""
