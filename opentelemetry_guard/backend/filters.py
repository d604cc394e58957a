"""Which events a URL asks for: the parameters that the list, the exports and the feed have in common."""

from __future__ import annotations

from collections.abc import Mapping

from .clock import UTC, Clock
from .refusal import Refusal
from .storage.contents import Contents
from .storage.search import EventFilter

STRETCHES = {
    "15m": ("Last 15 minutes", 900.0),
    "1h": ("Last hour", 3_600.0),
    "6h": ("Last 6 hours", 21_600.0),
    "24h": ("Last 24 hours", 86_400.0),
    "7d": ("Last 7 days", 604_800.0),
}
"""Times that the filter offers besides a beginning and an end."""

TEXTS = ("event_type", "address", "endpoint", "action", "service")
"""Parameters that are compared as text."""
CONTENTS = ("user_agent", "trace", "correlation_key")
"""Parameters that are compared with what only the rows say."""
TIMES = ("within", "since", "until", "zone")
"""Parameters that say when."""
FILTERS = (*TEXTS, *CONTENTS, *TIMES)

BETWEEN = "between"
"""What the form's one choice of a time says instead of a stretch: from `since` to `until`."""
ANY_TIME = "any"
"""What it says for no limit of time."""

_LONGEST = 512


def read_filter(query: Mapping[str, str], project: str, now: float) -> EventFilter:
    """Read a filter off the parameters of a URL; `now` is in Unix seconds.

    `since` and `until` are in the time zone that `zone` names, in UTC without it.

    Raises:
        Refusal: 422 for a time or a zone that can't be read.
    """
    within = query.get("within", "")
    clock = clock_named(query.get("zone", "") or UTC)
    if within and within not in STRETCHES:
        raise Refusal(422, f"within must be one of {', '.join(STRETCHES)}.")
    since, until = _moment(query, "since", clock), _moment(query, "until", clock)
    if within:
        since = max(now - STRETCHES[within][1], since if since is not None else 0.0)
    text = {name: query.get(name, "").strip()[:_LONGEST] for name in TEXTS}
    return EventFilter(project, **text, since=since, until=until)


def read_contents(query: Mapping[str, str]) -> Contents:
    """Read off the parameters of a URL what only the rows of events say."""
    return Contents(**{name: query.get(name, "").strip()[:_LONGEST] for name in CONTENTS})


def asked_for(query: Mapping[str, str]) -> dict[str, str]:
    """Return what the form of the list asks for, without what says nothing: it has one choice of a time.

    A stretch up to now leaves the fields of a beginning and an end aside, which a browser sends although it doesn't
    show them.
    """
    asked = {name: text for name in FILTERS if (text := query.get(name, "").strip()[:_LONGEST])}
    within = asked.get("within")
    if within in (ANY_TIME, BETWEEN):
        del asked["within"]
    if (within or BETWEEN) != BETWEEN:
        asked.pop("since", None)
        asked.pop("until", None)
    if not asked.keys() & {"since", "until"}:
        asked.pop("zone", None)
    return asked


def clock_named(name: str) -> Clock:
    """Return the clock of the zone that `since` and `until` are written in.

    Raises:
        Refusal: 422 for a zone that this machine doesn't know.
    """
    try:
        return Clock(name)
    except ValueError:
        raise Refusal(422, "zone must be a time zone such as Europe/Berlin.") from None


def _moment(query: Mapping[str, str], name: str, clock: Clock) -> float | None:
    text = query.get(name, "")
    if not text:
        return None
    try:
        return clock.read(text)
    except (ValueError, OverflowError):
        raise Refusal(422, f"{name} must be a time such as 2026-01-31T14:30.") from None
