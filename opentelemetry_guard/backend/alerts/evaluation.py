"""When a rule holds: a pure function of the rule, of figures of one project, and of the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...events.known import BANDS, meaning_of
from ...events.trouble import BREAKER_OPEN, DEAD_LETTERS
from ...settings.shown import visible
from .rules import AgentTroubleRule, EventsRule, IncidentRule, NewPlaceRule, Rule, SilentAgentRule

MOST_FINDINGS = 100
"""Findings of one rule at one look; what is beyond is found at a later one, while it goes on."""

_MOST_NAMED = 3
"""Types of events that a text names."""

_MOST_CHARACTERS = 200
"""Of what a sender has named: a user, an installation."""


@dataclass(frozen=True, slots=True)
class EventCount:
    """Events of one type that occurred in one minute (since the Unix epoch); `blocked` of them were stopped."""

    minute: int
    event_type: str
    events: int
    blocked: int


@dataclass(frozen=True, slots=True)
class SeenIncident:
    """What is known of what one client goes on with; times are in Unix seconds."""

    id: int
    who: str
    event_types: tuple[str, ...]
    severity: int
    threat_score: int
    requests: int
    last_seen: float


@dataclass(frozen=True, slots=True)
class SeenAgent:
    """What an installation has reported last, and when (Unix seconds)."""

    install_id: str
    service: str
    last_seen: float
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewPlace:
    """A user comes from a `place` for the first time, and has come from others before; `at` is in Unix seconds."""

    kind: str
    """``address`` or ``country``."""
    user: str
    place: str
    at: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of one project: as much as its rules look at, and of incidents and places what is recent."""

    counts: Sequence[EventCount] = ()
    incidents: Sequence[SeenIncident] = ()
    agents: Sequence[SeenAgent] = ()
    places: Sequence[NewPlace] = ()
    listening_since: float = 0.0
    """Since when installations could report here (Unix seconds): none is silent while nobody listens."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a rule tells of.

    `subject` is who or what it is about, and the same for what goes on; `text` says it to people. All that it rests on
    has happened at `since` (Unix seconds) or later: what somebody has closed after that is opened by newer things only.
    """

    subject: str
    text: str
    count: int
    since: float
    incident: int | None = None


def evaluate(rule: Rule, figures: Figures, now: float) -> list[Finding]:
    """Return what a rule finds in the figures of a project at `now` (Unix seconds)."""
    found = _findings(rule, figures, now)
    return [finding for _, finding in zip(range(MOST_FINDINGS), found, strict=False)]


def _findings(rule: Rule, figures: Figures, now: float) -> Iterator[Finding]:
    if isinstance(rule, EventsRule):
        return _many_events(rule, figures.counts, now)
    if isinstance(rule, IncidentRule):
        return _incidents(rule, figures.incidents)
    if isinstance(rule, NewPlaceRule):
        return _new_places(rule, figures.places)
    if isinstance(rule, SilentAgentRule):
        return _silent(rule, figures, now)
    return _in_trouble(rule, figures.agents)


def _many_events(rule: EventsRule, counts: Sequence[EventCount], now: float) -> Iterator[Finding]:
    first = int((now - rule.window) // 60)
    mine = [(one, _counted(rule, one)) for one in counts if first <= one.minute <= now // 60]
    mine.sort(key=lambda pair: -pair[0].minute)
    total, since = 0, None
    kinds: Counter[str] = Counter()
    for one, events in mine:
        total += events
        kinds[one.event_type] += events
        if since is None and total >= rule.threshold:
            since = one.minute * 60.0
    if since is None:
        return
    named = [printable(kind) for kind, events in kinds.most_common(_MOST_NAMED) if events]
    others = sum(1 for events in kinds.values() if events) - len(named)
    of = ", ".join(named) + (f" and {others} more" if others else "")
    text = f"{total:,} event{'s' if total != 1 else ''} in {in_words(rule.window)} (threshold {rule.threshold:,}): {of}"
    yield Finding("", text, total, since)


def _counted(rule: EventsRule, count: EventCount) -> int:
    """Return how many of these events a rule counts."""
    kind = count.event_type
    if rule.event_type is not None:
        beginning = rule.event_type.endswith("*")
        if not (kind.startswith(rule.event_type[:-1]) if beginning else kind == rule.event_type):
            return 0
    if rule.least_severity is not None and meaning_of(kind).severity < BANDS[rule.least_severity][0]:
        return 0
    if rule.blocked is None:
        return count.events
    return count.blocked if rule.blocked else count.events - count.blocked


def _incidents(rule: IncidentRule, incidents: Sequence[SeenIncident]) -> Iterator[Finding]:
    for one in incidents:
        severe = one.severity >= BANDS[rule.least_severity][0] and one.threat_score >= rule.least_score
        if severe and one.requests >= rule.requests:
            of = ", ".join(map(printable, one.event_types[-_MOST_NAMED:]))
            plural = "s" if one.requests != 1 else ""
            text = f"{one.requests:,} request{plural} of {printable(one.who)}, threat score {one.threat_score}: {of}"
            # By the number, since whoever attacks may change the address.
            yield Finding(f"incident {one.id}", text, one.requests, one.last_seen, one.id)


def _new_places(rule: NewPlaceRule, places: Sequence[NewPlace]) -> Iterator[Finding]:
    for one in places:
        if rule.when == f"new_{one.kind}":
            user, place = printable(one.user), printable(one.place)
            text = f"The user {user} comes from the {one.kind} {place} for the first time"
            yield Finding(f"{user} from {place}", text, 1, one.at)


def _silent(rule: SilentAgentRule, figures: Figures, now: float) -> Iterator[Finding]:
    for one in figures.agents:
        quiet, due = now - one.last_seen, max(one.last_seen, figures.listening_since) + rule.after
        if due < now and quiet < rule.gone_after:
            text = f"{_name(one)} has reported nothing for {in_words(int(quiet))}"
            yield Finding(_name(one), text, int(quiet), due)


def _in_trouble(rule: AgentTroubleRule, agents: Sequence[SeenAgent]) -> Iterator[Finding]:
    sign = DEAD_LETTERS if rule.when == "dead_letters" else BREAKER_OPEN
    for one in agents:
        told = [error for error in one.errors if sign in error]
        if told:
            yield Finding(_name(one), f"{_name(one)}: {printable(told[0])}", len(told), one.last_seen)


def _name(agent: SeenAgent) -> str:
    install = printable(agent.install_id)
    return f"{printable(agent.service)} ({install})" if agent.service else f"the agent {install}"


def printable(text: str) -> str:
    """Return what a sender has written as one line that a mail and a terminal can show."""
    bounded = text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"
    return visible(" ".join(bounded.split()))


def in_words(seconds: int) -> str:
    """Write a duration with its largest unit that says it exactly, or nearly."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size and (seconds % size == 0 or seconds >= 2 * size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
