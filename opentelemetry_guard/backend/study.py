"""What a change of the rules would have done to the events that are stored: who would have been blocked, and let in.

Each event is judged twice, by the rules of now and by those that are studied,
in the compiled form in which applications enforce them. Events tell of what
was conspicuous, so a client that never was is not among them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from ..decision.addresses import subscriber
from ..decision.compiled_rules import CompiledRules, Decision
from ..events.known import TEST_EVENT
from ..models import DynamicRules
from ..settings.login_rules import Logins
from .storage.rollups import event_facts
from .storage.search import FoundEvent

_NOT_STUDIED = {
    "blocked_cloud_providers": "the networks of cloud providers are known to applications alone",
    "global_rate_limit": "limits count every request, and events tell of few",
    "endpoint_rate_limits": "limits count every request, and events tell of few",
    "auto_ban_threshold": "automatic bans come of what happens from then on",
}
"""Fields that are left out of a study, and why."""

_MOST_TEXT = 2048
_LOGINS = Logins()


@dataclass(slots=True)
class Client:
    """What a change would have done to one client, and what else is known of it; times are in Unix seconds.

    Attributes:
        address: or the network, by which applications count it.
        rule: the field that decides, of the last request.
        matched: the entry of that field.
        ban_list: the list of others that the entry is from, "" for one of the operator's.
        requests: that are judged otherwise than now.
        through: those of them that nothing has stopped then.
        successes: requests of the client that were answered without an error, whatever rules say of them.
        logins: those of them that were logins.
        last_seen: when it sent the last request that is judged otherwise.
    """

    address: str
    rule: str = ""
    matched: str = ""
    ban_list: str = ""
    requests: int = 0
    through: int = 0
    successes: int = 0
    logins: int = 0
    last_seen: float = 0.0


@dataclass(slots=True)
class Study:
    """What there is to be said of a change.

    Attributes:
        blocked: clients that would be blocked, and are not by the rules of now; those with most requests first.
        let_in: clients that would no longer be blocked, likewise.
        events: how many were looked at.
        since: when the earliest of them occurred, in Unix seconds; None without any.
        cut_short: whether there are more, beyond a bound.
        notes: what was not studied, in words.
    """

    blocked: list[Client] = field(default_factory=list)
    let_in: list[Client] = field(default_factory=list)
    events: int = 0
    since: float | None = None
    cut_short: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def with_successes(self) -> int:
        """How many of those who would be blocked had successful requests."""
        return sum(client.successes > 0 for client in self.blocked)

    @property
    def with_logins(self) -> int:
        """How many of those who would be blocked had successful logins."""
        return sum(client.logins > 0 for client in self.blocked)

    @property
    def requests(self) -> int:
        """How many requests would be blocked."""
        return sum(client.requests for client in self.blocked)

    @property
    def through(self) -> int:
        """How many of these requests were not stopped by anything else."""
        return sum(client.through for client in self.blocked)


@dataclass(slots=True)
class _Seen:
    """A client while events are looked at."""

    successes: int = 0
    logins: int = 0
    blocked: Client | None = None
    let_in: Client | None = None


def study(
    events: Iterable[FoundEvent],
    now: DynamicRules,
    changed: DynamicRules,
    *,
    most: int,
    seconds: float = float("inf"),
    clock: Callable[[], float] = time.monotonic,
) -> Study:
    """Judge events by the rules of now and by changed ones.

    Args:
        events: newest first.
        now: the rules of now.
        changed: those that are studied.
        most: events that are looked at, at most.
        seconds: that it may take, at most.
        clock: which tells how long it takes, in seconds.
    """
    result = Study(notes=_left_out(now, changed))
    before, after = CompiledRules(_studied(now)), CompiledRules(_studied(changed))
    seen: dict[str, _Seen] = {}
    deadline = clock() + seconds
    for found in events:
        if result.events >= most or clock() >= deadline:
            result.cut_short = True
            break
        result.events += 1
        result.since = found.occurred_at if result.since is None else min(result.since, found.occurred_at)
        _look(seen, found, before, after)
    result.blocked = _most_first(client.blocked for client in _known(seen))
    result.let_in = _most_first(client.let_in for client in _known(seen))
    return result


def _look(seen: dict[str, _Seen], found: FoundEvent, before: CompiledRules, after: CompiledRules) -> None:
    event: dict[str, Any] = orjson.loads(found.row)
    facts = event_facts(found.row, found.received_at)
    if not facts.address or facts.event_type == TEST_EVENT:
        return
    address = subscriber(facts.address)
    client = seen.setdefault(address, _Seen())
    status = event.get("status_code")
    if isinstance(status, int) and 0 < status < 400 and not facts.blocked:
        client.successes += 1
        is_login = str(event.get("method") or "").upper() in _LOGINS.methods and _LOGINS.is_name(_path(facts.endpoint))
        client.logins += is_login
    asked = (
        facts.address,
        _text(event, "country"),
        _text(event, "endpoint"),
        _text(event, "user_agent"),
    )
    was, is_now = before.decide(*asked), after.decide(*asked)
    if was.allowed and not is_now.allowed:
        client.blocked = client.blocked or Client(address)
        _count(client.blocked, is_now, facts.requests, facts.blocked, found.occurred_at)
    elif is_now.allowed and not was.allowed:
        client.let_in = client.let_in or Client(address)
        _count(client.let_in, was, facts.requests, facts.blocked, found.occurred_at)


def _count(client: Client, decision: Decision, requests: int, stopped: bool, at: float) -> None:
    client.requests += requests
    client.through += 0 if stopped else requests
    if at >= client.last_seen:
        client.rule, client.matched, client.ban_list = decision.rule, decision.matched, decision.ban_list
        client.last_seen = at


def _known(seen: dict[str, _Seen]) -> Iterable[_Seen]:
    for one in seen.values():
        for client in (one.blocked, one.let_in):
            if client is not None:
                client.successes, client.logins = one.successes, one.logins
        yield one


def _most_first(clients: Iterable[Client | None]) -> list[Client]:
    return sorted(filter(None, clients), key=lambda client: (-client.requests, client.address))


def _studied(rules: DynamicRules) -> DynamicRules:
    return rules.model_copy(update={"blocked_cloud_providers": []})


def _left_out(now: DynamicRules, changed: DynamicRules) -> list[str]:
    """Say which fields of a change are not studied."""
    return [
        f"{name} is not studied: {why}."
        for name, why in _NOT_STUDIED.items()
        if getattr(now, name) != getattr(changed, name)
    ]


def _text(event: dict[str, Any], name: str) -> str | None:
    value = event.get(name)
    return value[:_MOST_TEXT] if isinstance(value, str) and value else None


def _path(endpoint: str) -> str:
    return endpoint.partition("?")[0]
