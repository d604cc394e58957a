"""Stored rows as the pages show them: times, durations and figures as text. Escaping is the templates' part."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ...events.enrichment import (
    BAN_LIST,
    CORRELATION_KEY,
    DEPLOYMENT_ENVIRONMENT,
    RECENT_EVENT_COUNT,
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    THREAT_SCORE,
)
from ...events.known import band_of, meaning_of
from ...events.names import name_of
from ...models import AgentStatus
from ..settings import TraceLink
from ..storage.askers import Asker
from ..storage.search import FoundEvent
from ..storage.store import Agent
from .export import utc_text

SILENT_SECONDS = 900.0
"""An agent reports every five minutes unless told otherwise: after three that are missing it counts as silent."""

SHOWN_AGENTS = 200
"""Installations that the page lists."""

_SHOWN_ERRORS = 20
_LINE_CHARACTERS = 300
"""Characters of a text that the table shows; the page of the event shows all of it."""

_PAGE_CHARACTERS = 100_000
"""Characters of one value, and of one list of values, on the page of an event."""

_INDENTED_CHARACTERS = 20_000
"""Up to this length JSON is indented."""

_LISTED = 200
"""Values of one list on the page of an event."""

# Controls but for tab and line feed, and what Unicode has for turning the direction of text.
_INVISIBLE = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff]")

_FACTS = (
    ("event_type", "Type"),
    ("action_taken", "Action"),
    ("reason", "Reason"),
    ("ip_address", "Address"),
    ("country", "Country"),
    ("user_agent", "User agent"),
    ("method", "Method"),
    ("endpoint", "Endpoint"),
    ("status_code", "Status"),
    ("response_time", "Response time (s)"),
    ("rule_type", "Rule type"),
    ("decorator_type", "Decorator type"),
    ("pattern_matched", "Pattern matched"),
    ("handler_name", "Handler"),
    ("idempotency_key", "Idempotency key"),
)
_METADATA_FACTS = (
    (BAN_LIST, "Ban list"),
    (SERVICE_NAME, "Service"),
    (SERVICE_VERSION, "Service version"),
    (DEPLOYMENT_ENVIRONMENT, "Environment"),
    (SERVICE_INSTANCE_ID, "Instance"),
    (THREAT_SCORE, "Threat score"),
    (RECENT_EVENT_COUNT, "Recent events"),
    (CORRELATION_KEY, "Correlation key"),
)
_NOT_LISTED = {name for name, _ in _METADATA_FACTS} | {"trace_id", "span_id"}
_COLUMNS = ("event_type", "ip_address", "method", "endpoint", "status_code", "action_taken", "reason", "country")
_NOT_FURTHER = {name for name, _ in _FACTS} | {"timestamp", "metadata"}


@dataclass(frozen=True, slots=True)
class EventView:
    """A line of the table: `time` in ISO 8601, and in `texts` the contract's fields by their names, cut short.

    `name` is what people call the type; `moment` is the time in Unix seconds.
    """

    id: int
    time: str
    moment: float
    name: str
    texts: Mapping[str, str]
    trace_url: str | None
    has_trace: bool
    severity: str


@dataclass(frozen=True, slots=True)
class EventDetail:
    """All of an event: `facts` are the contract's fields that are set, `further` what else its sender put in."""

    line: EventView
    bannable: bool
    received: float
    """In Unix seconds."""
    batch_id: str
    facts: Sequence[tuple[str, str]]
    further: Sequence[tuple[str, str]]
    metadata: Sequence[tuple[str, str]]
    trace_id: str
    span_id: str
    raw: str


@dataclass(frozen=True, slots=True)
class AgentView:
    """An installation: `state` is what `status` says, or ``silent`` when nothing comes any more."""

    install_id: str
    version: str
    state: str
    seen_ago: str
    last_flush: str
    status: AgentStatus
    errors: Sequence[str]
    service: str
    about: str
    """What else is known of the service: release, environment, instance."""
    asks_for_rules: bool
    rules_version: int | None
    """What it has taken over of the rules; None before it has said so."""


def event_view(found: FoundEvent, link: TraceLink | None) -> EventView:
    """Return an event as a line of the table."""
    return _line(found, orjson.loads(found.row), link)


def _line(found: FoundEvent, event: Mapping[str, Any], link: TraceLink | None) -> EventView:
    metadata = event.get("metadata") or {}
    return EventView(
        id=found.id,
        time=utc_text(found.occurred_at),
        moment=found.occurred_at,
        name=shortened(name_of(str(event.get("event_type")))),
        texts={name: shortened(event.get(name)) for name in _COLUMNS},
        trace_url=link.url(metadata.get("trace_id"), metadata.get("span_id")) if link else None,
        has_trace=bool(metadata.get("trace_id")),
        severity=band_of(meaning_of(str(event.get("event_type"))).severity),
    )


def shortened(value: object) -> str:
    """Return a value as text that a line has room for."""
    text = "" if value is None else str(value)
    return visible(text if len(text) <= _LINE_CHARACTERS else f"{text[:_LINE_CHARACTERS]}…")


def visible(text: str) -> str:
    """Spell characters that show nothing, or turn the direction of what follows, by their code."""
    return _INVISIBLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def event_detail(found: FoundEvent, link: TraceLink | None) -> EventDetail:
    """Return everything that is known of an event."""
    event: dict[str, Any] = orjson.loads(found.row)
    metadata: dict[str, Any] = event.get("metadata") or {}
    return EventDetail(
        line=_line(found, event, link),
        bannable=is_address(event.get("ip_address")),
        received=found.received_at,
        batch_id=shortened(found.batch_id),
        facts=_listed(
            (label, values[name])
            for values, names in ((event, _FACTS), (metadata, _METADATA_FACTS))
            for name, label in names
            if values.get(name) not in (None, "")
        ),
        further=_listed(item for item in event.items() if item[0] not in _NOT_FURTHER),
        metadata=_listed(item for item in metadata.items() if item[0] not in _NOT_LISTED),
        trace_id=shortened(_text(metadata.get("trace_id", ""))),
        span_id=shortened(_text(metadata.get("span_id", ""))),
        raw=_text(event),
    )


def is_address(text: str | None) -> bool:
    """Whether a text is an address: senders may put anything there, a hash of it for example."""
    try:
        ipaddress.ip_address(text or "")
    except ValueError:
        return False
    return True


def _listed(items: Iterable[tuple[str, object]]) -> list[tuple[str, str]]:
    """Return names and values as text, as many as a page has room for."""
    told: list[tuple[str, str]] = []
    room = _PAGE_CHARACTERS
    for name, value in items:
        if room <= 0 or len(told) == _LISTED:
            told.append(("…", "and more: export the event to see all of it"))
            break
        told.append((shortened(name), _text(value, room)))
        room -= len(told[-1][0]) + len(told[-1][1])
    return told


def _text(value: object, room: int = _PAGE_CHARACTERS) -> str:
    """Return a value as text of at most `room` characters, indented where there is room for it."""
    if isinstance(value, str):
        text = value
    else:
        text = orjson.dumps(value).decode()
        if len(text) <= _INDENTED_CHARACTERS:
            indented = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
            text = indented if len(indented) <= room else text
    if len(text) <= room:
        return visible(text)
    return f"{visible(text[:room])}… ({len(text) - room:,} more characters: export the event to see them)"


def agent_view(agent: Agent, asker: Asker | None, now: float) -> AgentView:
    """Return an installation as the page shows it at `now` (Unix seconds); `asker` is None where it asks no rules."""
    status = AgentStatus.model_validate_json(agent.status)
    return AgentView(
        install_id=agent.install_id,
        version=agent.user_agent or "unknown",
        state="silent" if now - agent.last_seen > SILENT_SECONDS else status.status,
        seen_ago=ago(now - agent.last_seen),
        last_flush="never" if status.last_flush is None else ago(now - status.last_flush.timestamp()),
        status=status,
        errors=[*map(shortened, status.errors[:_SHOWN_ERRORS]), *_left_out(len(status.errors) - _SHOWN_ERRORS)],
        service=shortened(status.service.get("name", "")),
        about=shortened(" · ".join(filter(None, map(status.service.get, ("version", "environment", "instance"))))),
        asks_for_rules=asker is not None,
        rules_version=None if asker is None else asker.has,
    )


def _left_out(count: int) -> list[str]:
    return [f"and {count} more"] if count > 0 else []


_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """Write a duration with its largest unit."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:,.0f} {unit}"
    return "0 s"


def ago(seconds: float) -> str:
    """Write how long something is past."""
    return "just now" if seconds < 5 else f"{duration(seconds)} ago"


def milliseconds(seconds: float | None) -> str:
    """Write a response time."""
    if seconds is None:
        return "–"  # noqa: RUF001 - a dash for what isn't known
    if seconds >= 1:
        return f"{seconds:,.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def percent(share: float | None) -> str:
    """Write a share."""
    if share is None:
        return "–"  # noqa: RUF001 - as above
    return f"{share * 100:.1f} %" if 0 < share < 0.1 else f"{share * 100:.0f} %"
