"""Events of one attacker and behaviour are one incident, whatever batches they come in."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime, timezone
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opentelemetry_guard.backend.storage import looks as looks_module
from opentelemetry_guard.backend.storage.incident_search import IncidentSearch
from opentelemetry_guard.backend.storage.incidents import MOST_EVENTS, MOST_LISTED, Incident
from opentelemetry_guard.backend.storage.paging import Page
from opentelemetry_guard.backend.storage.retention import Retention, apply_retention
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.events.correlation import QUIET_SECONDS
from opentelemetry_guard.events.enrichment import CORRELATION_KEY, THREAT_SCORE
from opentelemetry_guard.models import SecurityEvent

NOW = 1_800_000_000.0
numbers = count()
"""Projects of their own for each example."""


def event(
    key: str | None = "k", at: float = 0.0, kind: str = "penetration_attempt", action: str = "", **further: object
) -> SecurityEvent:
    address, target = further.pop("address", "192.0.2.1"), further.pop("target", "/login")
    return SecurityEvent(
        event_type=kind,
        timestamp=datetime.fromtimestamp(NOW + at, timezone.utc),
        ip_address=str(address),
        endpoint=str(target),
        action_taken=action,
        metadata={**({} if key is None else {CORRELATION_KEY: key}), **further},
    )


def only(store: Store) -> Incident:
    (found,) = IncidentSearch(store.database).latest("", 100)
    return found


@pytest.mark.parametrize("state", ["", "open"])
def test_the_latest_are_of_all_projects(store: Store, state: str) -> None:
    for number in range(9):
        store.add(f"p{number % 3}", f"b{number}", [event(at=number, key=f"k{number}")], [], NOW + 1e6)
    search = IncidentSearch(store.database)
    assert [one.correlation_key for one in search.latest(state, 4)] == ["k8", "k7", "k6", "k5"]
    assert len(search.latest(state, 100)) == 9
    assert search.latest("closed", 4) == []


def keys(store: Store, state: str = "", severity: str = "") -> list[str]:
    return [one.correlation_key for one in IncidentSearch(store.database).page("p", state, severity, None, 100).found]


def add(store: Store, *events: SecurityEvent, batch: str = "b", at: float = NOW + 1e6) -> None:
    store.add("p", batch, events, [], at)


def test_events_with_one_key_are_one_incident_with_what_they_tell_together(store: Store) -> None:
    add(
        store,
        event(at=5, action="request_blocked", target="/a", **{THREAT_SCORE: 80}),
        event(at=60, kind="suspicious_request", action="logged", target="/b", **{THREAT_SCORE: 70}),
    )
    add(store, event(at=30, action="request_blocked", target="/a", **{THREAT_SCORE: 83}), batch="c")
    found = only(store)
    assert (found.first_seen, found.last_seen) == (NOW + 5, NOW + 60)
    assert (found.events, found.requests, found.stopped) == (3, 3, 2)
    assert (found.severity, found.threat_score, found.last_action) == (8, 83, "logged")
    assert found.event_types == ["suspicious_request", "penetration_attempt"]
    assert (found.addresses, found.targets) == (["192.0.2.1"], ["/b", "/a"])
    assert (found.latest, found.state) == ([1, 2, 3], "open")


def test_an_event_counts_for_those_that_are_folded_into_it(store: Store) -> None:
    add(store, event(action="request_blocked", folded=11), event())
    assert (only(store).events, only(store).requests, only(store).stopped) == (2, 13, 12)


def test_what_tells_again_that_an_incident_goes_on_is_no_further_request(store: Store) -> None:
    add(store, event(kind="behavioral_violation"), event(kind="behavioral_violation", update=1, folded=4))
    assert (only(store).events, only(store).requests) == (2, 5)


@pytest.mark.parametrize("said", [-5, 1.5, "9", None, True, [3], {"a": 1}])
def test_what_is_no_number_of_others_counts_for_none(store: Store, said: object) -> None:
    add(store, event(folded=said, update=said if said != 1 else 0, **{THREAT_SCORE: said}))
    assert (only(store).requests, only(store).threat_score) == (1, 0)


def test_numbers_beyond_reason_are_bounded(store: Store) -> None:
    add(store, *(event(folded=2**62, **{THREAT_SCORE: 10**18}) for _ in range(50)))
    assert (only(store).requests, only(store).threat_score) == (50 * (10**9 + 1), 100)


def test_events_without_a_key_and_test_events_are_of_no_incident(store: Store) -> None:
    add(store, event(key=None), event(key=""), event(kind="doctor_test"))
    assert keys(store) == []


def test_a_batch_that_comes_twice_counts_once(store: Store) -> None:
    sent = [event(), event("other")]
    for batch in ("b", "b", "c"):
        add(store, *sent, event(at=1), batch=batch)
    found = {one.correlation_key: one.events for one in IncidentSearch(store.database).latest("", 10)}
    assert found == {"k": 4, "other": 1}


def test_the_same_key_in_two_projects_is_two_incidents(store: Store) -> None:
    for project in ("p", "q"):
        store.add(project, "b", [event()], [], NOW)
    found = IncidentSearch(store.database).latest("", 10)
    assert [(one.project_id, one.events) for one in found] == [("q", 1), ("p", 1)]
    assert IncidentSearch(store.database).one("p", found[0].id) is None


def test_addresses_targets_types_and_events_are_bounded_to_those_seen_last(store: Store) -> None:
    add(store, *(event(address=f"192.0.2.{n}", target=f"/{n}", kind=f"kind{n}") for n in range(100)))
    found = only(store)
    assert found.addresses == [f"192.0.2.{n}" for n in range(100 - MOST_LISTED, 100)]
    assert found.targets == [f"/{n}" for n in range(100 - MOST_LISTED, 100)]
    assert found.event_types == [f"kind{n}" for n in range(100 - MOST_LISTED, 100)]
    assert found.latest == list(range(101 - MOST_EVENTS, 101))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from("abc"), st.integers(0, 9)), max_size=6)))
def test_however_events_come_each_incident_has_all_of_its_own(
    module_store: Store, batches: list[list[tuple[str, str, int]]]
) -> None:
    mine = f"{next(numbers)}-"
    expected: Counter[tuple[str, str]] = Counter()
    for number, batch in enumerate(batches):
        for project in "pq":
            events = [event(key, at) for of, key, at in batch if of == project]
            module_store.add(mine + project, f"b{number}", events, [], NOW + 100)
        expected.update((mine + project, key) for project, key, _ in batch)
    search = IncidentSearch(module_store.database)
    for project in "pq":
        found = search.page(mine + project, "", "", None, 100).found
        assert {(one.project_id, one.correlation_key): one.events for one in found} == {
            place: count for place, count in expected.items() if place[0] == mine + project
        }
        assert [one.last_seen for one in found] == sorted((one.last_seen for one in found), reverse=True)
        for one in found:
            of_rows = [row for row in module_store.events(1000) if row.id in one.latest]
            assert {row.project_id for row in of_rows} == {one.project_id}
            assert all(f'"{one.correlation_key}"' in row.row for row in of_rows)
            assert len(of_rows) == min(one.events, MOST_EVENTS)


def test_the_list_begins_with_the_newest_activity_and_is_paged_and_filtered(store: Store) -> None:
    add(
        store,
        *(event(f"high{n}", at=n) for n in range(5)),
        event("medium", at=10, kind="rate_limited"),
        event("low", at=2.5, kind="https_enforced"),
    )
    assert keys(store) == ["medium", "high4", "high3", "low", "high2", "high1", "high0"]
    assert (keys(store, severity="medium"), keys(store, severity="low")) == (["medium"], ["low"])
    search = IncidentSearch(store.database)
    first = search.page("p", "", "high", None, 2)
    second = search.page("p", "", "high", first.older, 2)
    third = search.page("p", "", "high", second.older, 2)
    walked = [one.correlation_key for page in (first, second, third) for one in page.found]
    assert (walked, third.older) == ([f"high{n}" for n in (4, 3, 2, 1, 0)], None)


def test_a_state_holds_until_a_closed_incident_goes_on(store: Store) -> None:
    add(store, event(at=1), at=NOW + 5)
    search = IncidentSearch(store.database)
    number = only(store).id
    assert not search.set_state("other", number, "closed", NOW)
    assert search.set_state("p", number, "acknowledged", NOW + 10)
    add(store, event(at=11), batch="c", at=NOW + 12)
    assert (only(store).state, keys(store, "open"), keys(store, "acknowledged")) == ("acknowledged", [], ["k"])
    assert search.set_state("p", number, "closed", NOW + 20)
    add(store, event(at=19), batch="d", at=NOW + 30)
    assert (only(store).state, only(store).state_since) == ("closed", NOW + 20), "it occurred before"
    add(store, event(at=21), batch="e", at=NOW + 30)
    assert (only(store).state, only(store).state_since, only(store).id) == ("open", NOW + 21, number)


@pytest.mark.parametrize("seconds", [0.0, math.inf])
@pytest.mark.parametrize(("state", "severity"), [("closed", ""), ("", "high"), ("closed", "high")])
def test_a_look_for_a_state_or_a_severity_ends_in_time_and_is_gone_on_with(
    store: Store, monkeypatch: pytest.MonkeyPatch, seconds: float, state: str, severity: str
) -> None:
    monkeypatch.setattr(looks_module, "STRETCH_ROWS", 3)
    monkeypatch.setattr(looks_module, "LOOK_SECONDS", seconds)
    kinds = ["penetration_attempt" if number in (2, 9) else "rate_limited" for number in range(12)]
    add(store, *(event(f"k{number}", at=number, kind=kind) for number, kind in enumerate(kinds)))
    search = IncidentSearch(store.database)
    for one in search.latest("", 100):
        if one.event_types == ["penetration_attempt"]:
            search.set_state("p", one.id, "closed", NOW)
    first = search.page("p", state, severity, None, 5)
    assert (keys_of(first), first.looked_at) == ((["k9"], 3) if seconds == 0 else (["k9", "k2"], 0))
    page = search.page("p", state, severity, None, 1)
    found = keys_of(page)
    while page.older is not None:
        page = search.page("p", state, severity, page.older, 1)
        found += keys_of(page)
    assert found == ["k9", "k2"]
    assert [one.correlation_key for one in search.latest("closed", 5)] == ["k9", "k2"]


def keys_of(page: Page[Incident]) -> list[str]:
    return [one.correlation_key for one in page.found]


def test_what_comes_after_a_quiet_day_is_another_incident(store: Store) -> None:
    add(store, event(at=0), event("other", at=0))
    add(store, event(at=QUIET_SECONDS - 1), event("other", at=5), batch="c")
    first = next(one for one in IncidentSearch(store.database).latest("", 9) if one.correlation_key == "k")
    assert first.events == 2, "it went on within a day"
    IncidentSearch(store.database).set_state("p", first.id, "closed", NOW + QUIET_SECONDS)
    begins = 2 * QUIET_SECONDS - 1
    add(store, event(at=begins), event(at=begins + 5), batch="d")
    add(store, event(at=begins + 9), event("other", at=9), batch="e")
    found = {one.id: one for one in IncidentSearch(store.database).latest("", 9)}
    assert (found[first.id].state, found[first.id].events) == ("closed", 2), "over is over"
    (second,) = [one for one in found.values() if one.correlation_key == "k" and one.id != first.id]
    assert (second.events, second.state, second.first_seen) == (3, "open", NOW + begins)
    assert len(found) == 3


def test_each_of_many_that_come_at_once_is_of_its_own_incident(store: Store) -> None:
    add(store, *(event(at=number * QUIET_SECONDS) for number in range(5)))
    assert [one.events for one in IncidentSearch(store.database).latest("", 9)] == [1] * 5
    add(store, event(at=4 * QUIET_SECONDS + 1), batch="c")
    add(store, event(at=QUIET_SECONDS / 2), batch="late")
    assert [one.events for one in IncidentSearch(store.database).latest("", 9)] == [3, 1, 1, 1, 1]
    assert len({one.id for one in IncidentSearch(store.database).latest("", 9)}) == 5


def test_an_incident_goes_with_the_last_of_its_events(store: Store) -> None:
    add(store, event("gone"), event("stays"), event("stays"))
    apply_retention(store.database, Retention(rows=2), NOW)
    assert keys(store) == ["stays"]
    apply_retention(store.database, Retention(rows=1), NOW)
    assert keys(store) == ["stays"]
    # Two days later: PostgreSQL drops a day when all of it is too old.
    apply_retention(store.database, Retention(days=1), NOW + 1e6 + 180_000)
    assert keys(store) == []
