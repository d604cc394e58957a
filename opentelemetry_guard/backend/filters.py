"""Which events a URL asks for: the parameters that the list, the exports and the feed have in common."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone

from .refusal import Refusal
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
FILTERS = (*TEXTS, "within", "since", "until")

_LONGEST = 512


def read_filter(query: Mapping[str, str], project: str, now: float) -> EventFilter:
    """Read a filter off the parameters of a URL; `now` is in Unix seconds.

    Raises:
        Refusal: 422 for a time that can't be read.
    """
    within = query.get("within", "")
    if within and within not in STRETCHES:
        raise Refusal(422, f"within must be one of {', '.join(STRETCHES)}.")
    since, until = _moment(query, "since"), _moment(query, "until")
    if within:
        since = max(now - STRETCHES[within][1], since if since is not None else 0.0)
    text = {name: query.get(name, "").strip()[:_LONGEST] for name in TEXTS}
    return EventFilter(project, **text, since=since, until=until)


def _moment(query: Mapping[str, str], name: str) -> float | None:
    text = query.get(name, "")
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp()
    except (ValueError, OverflowError):
        raise Refusal(422, f"{name} must be a time in UTC such as 2026-01-31T14:30.") from None
