"""What is told of an alert, in words and as data; pure functions of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from uuid import uuid4

import orjson

from .rules import Band

ALERT_EVENT = "guard.alert"
"""The `type` of a webhook's message, and the event name of a log record."""


class NotTaken(Exception):
    """A receiver has not taken a notice; for `pause` seconds it wants to be left alone."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        """Say why, without any secret."""
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification; every try of it, by every channel, has the same `id`.

    `text` says what has happened, `subject` who or what it is about (empty where it is a whole project), `count` how
    much of it; `at` is when, in Unix seconds. `more` are other alerts of the rule that no notification told of.
    `link` leads to its page. A `test` is about nothing that has happened.
    """

    id: str
    rule: str
    when: str
    severity: Band
    project: str
    subject: str
    text: str
    count: int
    at: float
    alert: int = 0
    more: int = 0
    link: str | None = None
    test: bool = False

    @property
    def title(self) -> str:
        """One line."""
        return f"[Guard] {'Test: ' if self.test else ''}{self.severity}: {self.rule} ({self.project})"

    @property
    def words(self) -> str:
        """All of it for people."""
        when = datetime.fromtimestamp(self.at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        lines = [self.text, "", f"Rule: {self.rule}", f"Severity: {self.severity}", f"Project: {self.project}"]
        lines += [f"Subject: {self.subject}"] if self.subject else []
        lines += [f"Since: {when}"]
        if self.more:
            lines += ["", f"{self.more} more alerts of this rule were not told: it is bounded by the hour."]
        return "\n".join([*lines, *(["", self.link] if self.link else []), ""])

    @property
    def message(self) -> bytes:
        """The body of a webhook: `type`, `timestamp` and `data`, as Standard Webhooks says, and the words in `text`."""
        when = datetime.fromtimestamp(self.at, timezone.utc).isoformat().replace("+00:00", "Z")
        data = {name: value for name, value in asdict(self).items() if name != "at"}
        return orjson.dumps({"type": ALERT_EVENT, "timestamp": when, "text": self.title, "data": data})


def encoded(notice: Notice) -> str:
    """Return a notice as it is kept."""
    return orjson.dumps(notice).decode()


def decoded(text: str) -> Notice:
    """Return the notice that `encoded` made a text of."""
    return Notice(**orjson.loads(text))


def example_notice(now: float) -> Notice:
    """Return a test of a channel at `now` (Unix seconds)."""
    text = "This is a test of the channel. Nothing has happened."
    return Notice(str(uuid4()), "test", "test", "low", "test", "", text, 0, now, test=True)
