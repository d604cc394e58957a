"""A watch in front of a real database and real receivers: what it finds is told once, whatever ends or fails."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL
from support.mailbox import mailbox
from support.ports import free_port
from support.raw_server import RawServer, answer, raw_server
from support.redis import eventually

from opentelemetry_guard.backend.alerts.file import Alerts
from opentelemetry_guard.backend.alerts.watch import Watch, WatchThread
from opentelemetry_guard.backend.storage.alerts import GIVEN_UP_SECONDS, KEPT_SECONDS, StoredAlerts
from opentelemetry_guard.backend.storage.incident_search import IncidentSearch
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.events.enrichment import CORRELATION_KEY, THREAT_SCORE
from opentelemetry_guard.models import AgentStatus, SecurityEvent

NOW = 1_800_000_000.0
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"
BURST = {"name": "burst", "when": "events", "event_type": "ip_blocked", "threshold": 3, "window": "5m"}


@pytest.fixture
def receiver() -> Iterator[RawServer]:
    with raw_server(answer(TAKEN)) as server:
        yield server


def alerts(port: int, *rules: dict[str, object], **more: Any) -> Alerts:
    channels = {"ops": {"type": "webhook", "url": f"http://127.0.0.1:{port}/", "secret": SECRET}}
    return Alerts.model_validate({"rules": rules or (BURST,), "channels": channels, **more})


def watch(store: Store, said: Alerts, started: float = NOW) -> Watch:
    return Watch(store.database, said, started)


def event(kind: str = "ip_blocked", at: float = NOW, **fields: Any) -> SecurityEvent:
    return SecurityEvent(event_type=kind, timestamp=datetime.fromtimestamp(at, timezone.utc), **fields)


def add(store: Store, *events: SecurityEvent, project: str = "shop", at: float = NOW) -> None:
    store.add(project, "b", list(events), [], at)


def told(receiver: RawServer) -> list[dict[str, Any]]:
    return [json.loads(request.partition(b"\r\n\r\n")[2])["data"] for request in receiver.requests]


def states(store: Store, project: str = "shop") -> dict[str, str]:
    found = StoredAlerts(store.database).page(project, "", None, 1000).found
    return {alert.subject or alert.rule: alert.state for alert in found}


def test_enough_events_are_told_once_for_as_long_as_they_go_on(store: Store, receiver: RawServer) -> None:
    watching = watch(store, alerts(receiver.port))
    add(store, event(), event())
    watching.step(NOW)
    assert told(receiver) == []
    add(store, event())
    for later in (15, 30, 45):
        watching.step(NOW + later)
    (notice,) = told(receiver)
    assert (notice["rule"], notice["project"], notice["count"]) == ("burst", "shop", 3)
    assert notice["text"] == "3 events in 5 min (threshold 3): ip_blocked"
    assert states(store) == {"burst": "open"}


def test_projects_are_looked_at_each_by_itself(store: Store, receiver: RawServer) -> None:
    for project in ("shop", "blog"):
        add(store, event(), event(), project=project)
    add(store, event(), event(), event(), project="forum")
    watch(store, alerts(receiver.port)).step(NOW)
    assert [notice["project"] for notice in told(receiver)] == ["forum"]
    watch(store, alerts(receiver.port, {**BURST, "name": "of shop", "project": "shop", "threshold": 1})).step(NOW + 200)
    assert [notice["project"] for notice in told(receiver)] == ["forum", "shop"]


def test_what_is_over_closes_by_itself_and_is_told_when_it_comes_back(store: Store, receiver: RawServer) -> None:
    watching = watch(store, alerts(receiver.port, {**BURST, "closes_after": "10m"}))
    add(store, event(), event(), event())
    watching.step(NOW)
    watching.step(NOW + 800)
    assert states(store) == {"burst": "closed"}
    again = NOW + 1000
    add(store, *(event(at=again) for _ in range(3)), at=again)
    watching.step(again + 60)
    assert states(store) == {"burst": "open"}
    assert len(told(receiver)) == 2


def test_what_somebody_closed_stays_closed_until_something_new_happens(store: Store, receiver: RawServer) -> None:
    watching, kept = watch(store, alerts(receiver.port)), StoredAlerts(store.database)
    add(store, event(), event(), event())
    watching.step(NOW)
    (alert,) = kept.page("shop", "", None, 10).found
    assert kept.set_state("shop", alert.id, "closed", NOW + 30)
    watching.step(NOW + 60)
    assert states(store) == {"burst": "closed"}
    add(store, *(event(at=NOW + 120) for _ in range(3)), at=NOW + 120)
    watching.step(NOW + 130)
    assert (states(store), len(told(receiver))) == ({"burst": "open"}, 2)


def test_an_acknowledged_one_stays_so_while_it_goes_on(store: Store, receiver: RawServer) -> None:
    watching, kept = watch(store, alerts(receiver.port)), StoredAlerts(store.database)
    add(store, event(), event(), event())
    watching.step(NOW)
    kept.set_state("shop", 1, "acknowledged", NOW + 30)
    add(store, *(event(at=NOW + 60) for _ in range(3)), at=NOW + 60)
    watching.step(NOW + 75)
    assert (states(store), len(told(receiver))) == ({"burst": "acknowledged"}, 1)


def test_after_a_restart_what_was_told_is_not_told_again_and_what_was_not_is(
    store: Store, database: Path | URL
) -> None:
    port = free_port()
    add(store, event(), event(), event())
    first = watch(store, alerts(port))
    first.step(NOW)
    first.give_way()
    health = StoredAlerts(store.database).health(NOW)["ops"]
    assert (health.waiting, health.sent_at) == (1, None)
    assert "refused" in health.error
    with closing(Store(database)) as again, raw_server(answer(TAKEN), port=port) as receiver:
        for start in (NOW + 400, NOW + 500):
            restarted = watch(again, alerts(port))
            restarted.step(start)
            restarted.give_way()
        assert len(told(receiver)) == 1
        health = StoredAlerts(again.database).health(NOW + 500)["ops"]
        assert (health.waiting, health.error) == (0, "")
        assert health.sent_at is not None


def test_one_that_nobody_takes_for_a_day_is_given_up(store: Store) -> None:
    with raw_server(answer(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")) as broken:
        add(store, event(), event(), event())
        watch(store, alerts(broken.port)).step(NOW)
        restarted = watch(store, alerts(broken.port))
        restarted._holder = "another"
        assert not restarted.step(NOW + 60)
        assert restarted.step(NOW + GIVEN_UP_SECONDS + 1)
        assert len(broken.requests) == 1
    assert StoredAlerts(store.database).health(NOW + GIVEN_UP_SECONDS + 1)["ops"].waiting == 0


def test_one_process_at_a_time_looks_and_another_goes_on_where_it_ends(store: Store, receiver: RawServer) -> None:
    first, second = watch(store, alerts(receiver.port)), watch(store, alerts(receiver.port))
    assert first.step(NOW)
    assert not second.step(NOW + 1)
    assert first.step(NOW + 2)
    first.give_way()
    assert second.step(NOW + 3)
    assert not first.step(NOW + 4)
    assert first.step(NOW + 3 + 10_000), "one that was killed gives nothing back"


def agent(store: Store, install: str, at: float, *errors: str) -> None:
    status = AgentStatus(status="healthy", uptime=1.0, errors=list(errors), service={"name": "shop"})
    store.set_status("shop", install, "x", status, at)


def test_a_flood_is_bounded_by_the_hour_and_the_rest_is_counted_in_the_next(store: Store, receiver: RawServer) -> None:
    rule = {"name": "silent", "when": "agent_silent", "after": "5m", "most_per_hour": 3}
    watching = watch(store, alerts(receiver.port, rule), started=NOW - 10_000)
    for number in range(8):
        agent(store, f"first-{number}", NOW - 400)
    watching.step(NOW)
    assert sorted(notice["more"] for notice in told(receiver)) == [0, 0, 5]
    for number in range(4):
        agent(store, f"second-{number}", NOW - 400)
    watching.step(NOW + 600)
    watching.step(NOW + 1200)
    assert len(told(receiver)) == 3
    watching.step(NOW + 3601)
    assert sorted(notice["more"] for notice in told(receiver)[3:]) == [0, 0, 1]
    assert len(states(store)) == 12


def test_each_kind_of_rule_finds_what_the_store_has_of_it(store: Store, receiver: RawServer) -> None:
    said = alerts(
        receiver.port,
        {"name": "attacker", "when": "incident", "requests": 2},
        {"name": "address", "when": "new_address"},
        {"name": "country", "when": "new_country"},
        {"name": "silent", "when": "agent_silent"},
        {"name": "dead", "when": "dead_letters"},
        {"name": "breaker", "when": "breaker_open"},
        dashboard="https://guard.example.com/",
    )
    attack = {CORRELATION_KEY: "k", THREAT_SCORE: 83}
    add(store, *(event("penetration_attempt", ip_address="192.0.2.7", metadata=attack) for _ in range(2)))
    add(store, event("login", ip_address="192.0.2.1", country="NL", metadata={"user": "ada"}))
    agent(store, "quiet", NOW - 1000)
    agent(store, "lossy", NOW - 5, "the backend has refused 2 rows lately; they are dead letters, with its answer")
    agent(store, "cut off", NOW - 5, "events can't be delivered now and wait, circuit breaker open: 503")
    watching = watch(store, said, started=NOW - 10_000)
    watching.step(NOW)
    assert sorted((one["rule"], one["subject"]) for one in told(receiver)) == [
        ("attacker", "incident 1"),
        ("breaker", "shop (cut off)"),
        ("dead", "shop (lossy)"),
        ("silent", "shop (quiet)"),
    ]
    assert {"https://guard.example.com/alerts/1?project=shop"} < {one["link"] for one in told(receiver)}
    later = NOW + 100
    add(store, event("login", at=later, ip_address="192.0.2.9", country="BR", metadata={"user": "ada"}), at=later)
    add(store, event("authentication_failed", ip_address="192.0.2.66", metadata={"user": "ada"}), at=later)
    add(store, event("login", at=later, ip_address="192.0.2.66", country="BR", metadata={"user": "bob"}), at=later)
    watching.step(later)
    assert sorted(one["text"] for one in told(receiver)[4:]) == [
        "The user ada comes from the address 192.0.2.9 for the first time",
        "The user ada comes from the country BR for the first time",
    ]
    assert IncidentSearch(store.database).one("shop", 1) is not None


def test_every_channel_of_a_rule_is_told_and_a_broken_one_keeps_none_from_it(store: Store) -> None:
    with mailbox() as box, raw_server(answer(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")) as broken:
        said = alerts(broken.port).model_dump() | {"every": 15}
        mail = {"type": "smtp", "host": "127.0.0.1", "port": box.port, "security": "none", "sender": "g@example.com"}
        said["channels"] = {
            "ops": {"type": "webhook", "url": f"http://127.0.0.1:{broken.port}/", "secret": SECRET},
            "mail": {**mail, "recipients": ["ops@example.com"]},
        }
        add(store, event(), event(), event())
        watch(store, Alerts.model_validate(said)).step(NOW)
    assert [mail["Subject"] for mail in box.mails] == ["[Guard] medium: burst (shop)"]
    health = StoredAlerts(store.database).health(NOW)
    assert (health["ops"].error, health["ops"].waiting) == ("the receiver answered 500", 1)
    assert (health["mail"].error, health["mail"].waiting) == ("", 0)


def test_what_is_long_over_is_forgotten(store: Store, receiver: RawServer) -> None:
    watching = watch(store, alerts(receiver.port))
    add(store, event(), event(), event())
    watching.step(NOW)
    watching.step(NOW + 7200)
    assert states(store) == {"burst": "closed"}
    watching.step(NOW + 7200 + KEPT_SECONDS + 1)
    assert (states(store), StoredAlerts(store.database).health(NOW)) == ({}, {})


def test_a_rule_that_is_in_the_file_no_more_leaves_no_open_alert(store: Store, receiver: RawServer) -> None:
    add(store, event(), event(), event())
    watch(store, alerts(receiver.port)).step(NOW)
    other = watch(store, alerts(receiver.port, {**BURST, "name": "other", "threshold": 1000}))
    other.step(NOW + 10_000)
    assert states(store) == {"burst": "closed"}


def test_the_thread_tells_by_itself_and_ends_when_it_is_told_to(store: Store, receiver: RawServer) -> None:
    moment = time.time()
    add(store, *(event(at=moment) for _ in range(3)), at=moment)
    thread = WatchThread(store.database, alerts(receiver.port, every=1))
    try:
        eventually(lambda: bool(receiver.requests), seconds=60)
    finally:
        thread.stop()
    assert [notice["rule"] for notice in told(receiver)] == ["burst"]
    assert watch(store, alerts(receiver.port)).step(time.time()), "it has given its place back"
