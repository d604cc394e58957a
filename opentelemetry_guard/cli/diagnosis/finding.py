"""One line of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about `subject`: a setting's name where one is behind it, else what was looked at.

    A warning works and could be better; with a problem events don't arrive,
    or will not. `remedy` says what to do, "" where there is nothing to do.
    """

    level: Level
    subject: str
    message: str
    remedy: str = ""


def ok(subject: str, message: str) -> Finding:
    """Return a finding that all is well."""
    return Finding("ok", subject, message)


def warning(subject: str, message: str, remedy: str) -> Finding:
    """Return a finding about something that works and could be better."""
    return Finding("warning", subject, message, remedy)


def problem(subject: str, message: str, remedy: str) -> Finding:
    """Return a finding that keeps events from arriving."""
    return Finding("problem", subject, message, remedy)
