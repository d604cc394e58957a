"""One incident is told once: what a client goes on with is counted, and told with its next event or at the end.

A scan asks for hundreds of paths, of which each means something. The first event of a kind of attack is told at once,
the next one of the same client and kind a minute later at the earliest, with the number of those between (``folded``).
Failed logins and refusals are told one by one: each of them is a decision of the application.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

from opentelemetry.trace import SpanContext

from ...settings.http_rules import Folding
from .reports import Report, counted

MOST_TOLD = 8
"""Clients whose incidents one request ends at most: when a crowd falls silent, no single request tells of them all."""


class Event(NamedTuple):
    """An event that may be told later: all of its fields, and the span in which it was made."""

    fields: Report
    span: SpanContext


class Client(NamedTuple):
    """Who has done something, and what kind of attack that is."""

    name: str
    kind: str


class FoldedEvents:
    """The kinds of attack that clients go on with, in bounded memory; thread-safe."""

    def __init__(self, rule: Folding) -> None:
        self._rule = rule
        # The lock guards the dictionary and what is in it; its order is that of the latest telling.
        self._lock = threading.Lock()
        self._open: OrderedDict[Client, _Incident] = OrderedDict()

    def admit(self, client: Client, event: Event, now: float) -> list[Event]:
        """Return the events that are to be told now: this one, unless it is folded, and what others left untold.

        Args:
            client: whose event it is; without a name it is told at once.
            event: what it is.
            now: seconds on a clock that never goes back.
        """
        if not client.name:
            return [event]
        told: list[Event] = []
        with self._lock:
            incident = self._open.get(client)
            if incident is not None and now - incident.told < self._rule.seconds:
                incident.number += 1
                incident.latest = event
            else:
                self._open.pop(client, None)
                told.append(_counted(event, 0 if incident is None else incident.number))
                self._open[client] = _Incident(now)
            for _ in range(MOST_TOLD):
                if len(self._open) <= self._rule.clients and not self._is_over(now):
                    break
                told += _rest(self._open.popitem(last=False)[1])
        return told

    def drain(self) -> list[Event]:
        """Return what is still folded, for the end of an application."""
        with self._lock:
            ended, self._open = self._open, OrderedDict()
        return [event for incident in ended.values() for event in _rest(incident)]

    def _is_over(self, now: float) -> bool:
        return bool(self._open) and now - next(iter(self._open.values())).told >= self._rule.seconds


@dataclass(slots=True)
class _Incident:
    """When one was told, how many events were folded since, and the latest of them."""

    told: float
    number: int = 0
    latest: Event | None = None


def _rest(incident: _Incident) -> list[Event]:
    """Return the latest event that was folded, which stands for the others."""
    return [] if incident.latest is None else [_counted(incident.latest, incident.number - 1)]


def _counted(event: Event, number: int) -> Event:
    return event._replace(fields=counted(event.fields, number)) if number else event


class Together:
    """What means something only with others of its kind: different ones of one client within a window; thread-safe."""

    def __init__(self, number: int, seconds: float, clients: int) -> None:
        """Build a memory that finds `number` different things within `seconds`, of at most so many `clients`."""
        self._number = number
        self._seconds = seconds
        self._clients = clients
        # The lock guards the dictionary and what is in it.
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, dict[Hashable, float]] = OrderedDict()

    def add(self, client: str, thing: Hashable, now: float) -> int:
        """Note a thing, and return how many different ones of the client there are, 0 below what means something."""
        with self._lock:
            things = self._seen.pop(client, None) or {}
            things.pop(thing, None)
            things[thing] = now
            while now - next(iter(things.values())) > self._seconds:
                del things[next(iter(things))]
            self._seen[client] = things
            if len(self._seen) > self._clients:
                self._seen.popitem(last=False)
            return len(things) if len(things) >= self._number else 0
