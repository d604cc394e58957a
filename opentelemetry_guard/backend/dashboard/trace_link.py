"""Links from an event to its trace in Jaeger, Grafana or any other viewer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_PLACE = re.compile(r"\{(\w+)\}")
_PLACES = frozenset({"trace_id", "span_id"})


@dataclass(frozen=True, slots=True)
class TraceLink:
    """A URL with the places ``{trace_id}`` and ``{span_id}``, for example ``http://localhost:16686/trace/{trace_id}``.

    Raises:
        ValueError: it is no http or https URL, has no ``{trace_id}``, or has a place of another name.
    """

    template: str

    def __post_init__(self) -> None:
        """Check the template."""
        parts = urlsplit(self.template)
        unknown = set(_PLACE.findall(self.template)) - _PLACES
        if parts.scheme not in ("http", "https") or not parts.hostname or "{trace_id}" not in self.template or unknown:
            raise ValueError(
                f"The trace URL {self.template!r} must be an http or https URL with {{trace_id}} in it, "
                "and {span_id} where wanted: http://localhost:16686/trace/{trace_id}"
            )

    def url(self, trace_id: object, span_id: object) -> str | None:
        """Return the URL of a trace; None when the identifiers aren't W3C ones, which senders choose freely."""
        if not isinstance(trace_id, str) or not re.fullmatch("[0-9a-f]{32}", trace_id):
            return None
        span = span_id if isinstance(span_id, str) and re.fullmatch("[0-9a-f]{16}", span_id) else ""
        return self.template.replace("{trace_id}", trace_id).replace("{span_id}", span)
