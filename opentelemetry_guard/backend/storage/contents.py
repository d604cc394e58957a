"""Finding events by what only their rows say: the trace, the client's user agent, the correlation key.

A whole trace id is in an index. Nothing else is: rows are looked at, newest
first, along the index that the other filters choose, and compared one by one.
So a look goes so far and no further (`looks`); where it found too little for a
page, the answer says how far it looked and goes on from there. A filter by time, address or type makes it short.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import orjson

from ...events.enrichment import CORRELATION_KEY
from .paging import Cursor, Page
from .search import EventFilter, EventSearch, FoundEvent
from .tables import TRACE_DIGITS

_WHOLE_TRACE = re.compile(f"[0-9a-fA-F]{{{TRACE_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class Contents:
    """What rows have to say; an empty text asks nothing.

    A `user_agent` is found within the client's, whatever the case; `trace` is a trace id or its beginning; a
    `correlation_key` is compared as a whole.
    """

    user_agent: str = ""
    trace: str = ""
    correlation_key: str = ""

    def __bool__(self) -> bool:
        """Whether anything is asked."""
        return bool(self.user_agent or self.trace or self.correlation_key)

    def narrowed(self, wanted: EventFilter) -> EventFilter:
        """Return which events have to be read for it."""
        return replace(wanted, trace=self.trace.lower()) if _WHOLE_TRACE.fullmatch(self.trace) else wanted

    def texts(self) -> list[str]:
        """Return, in small letters, what an event's JSON has somewhere that says all of it.

        What JSON writes as it is can be looked for by the database, which takes a fraction of the time that reading
        takes. Only by it are no letters alike but ASCII's: a K isn't found where somebody wrote the sign of the kelvin.
        """
        asked = (self.user_agent, self.trace, self.correlation_key)
        return [text.lower() for text in asked if text and _written_as_it_is(text)]

    def matches(self, row: str) -> bool:
        """Whether the JSON of an event says all of it."""
        event = orjson.loads(row)
        metadata = event.get("metadata")
        if not isinstance(metadata, dict):
            metadata = {}
        return (
            self.user_agent.lower() in str(event.get("user_agent") or "").lower()
            and str(metadata.get("trace_id") or "").lower().startswith(self.trace.lower())
            and (not self.correlation_key or metadata.get(CORRELATION_KEY) == self.correlation_key)
        )

    def among(self, events: Iterable[FoundEvent]) -> Iterator[FoundEvent]:
        """Give those of `events` that say all of it."""
        return (event for event in events if self.matches(event.row)) if self else iter(events)


def _written_as_it_is(text: str) -> bool:
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def page_of(
    search: EventSearch, wanted: EventFilter, contents: Contents, before: Cursor | None, limit: int
) -> Page[FoundEvent]:
    """Return the `limit` newest events that match and come after the place `before`, as `EventSearch.page`."""
    if not contents:
        return search.page(wanted, before, limit)
    return search.page_among(contents.narrowed(wanted), contents.texts(), contents.among, before, limit)
