"""What a client does over time becomes one event for each incident, and normal traffic becomes none."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import tracemalloc
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.traffic import AGENTS, Timed, answered, normal_traffic

from opentelemetry_guard import SecurityEvent
from opentelemetry_guard.events.enrichment import CORRELATION_KEY
from opentelemetry_guard.instrumentation.behavior.analyzer import EVENT_TYPE, BehaviorAnalyzer
from opentelemetry_guard.instrumentation.behavior.keys import address_key, user_key
from opentelemetry_guard.instrumentation.http.findings import AnsweredRequest
from opentelemetry_guard.settings.behavior_rules import Profile

Event = dict[str, Any]

ATTACKER = "203.0.113.200"


def seen(
    traffic: Iterable[Timed], rules: Mapping[str, object] | None = None, analyzer: BehaviorAnalyzer | None = None
) -> list[Event]:
    """Return the events of some traffic."""
    analyzer = BehaviorAnalyzer(rules) if analyzer is None else analyzer
    return [event for at, request in traffic for event in analyzer.observe(request, at)]


def patterns(events: Iterable[Event]) -> list[str]:
    return [event["metadata"].get("pattern", event["rule_type"]) for event in events]


def failed_logins(
    number: int, *, address: str = ATTACKER, user: str | None = None, start: float = 0.0, every: float = 0.1
) -> list[Timed]:
    return [
        (start + attempt * every, answered(address, "/login", 401, method="POST", user=user))
        for attempt in range(number)
    ]


def missing(number: int, *, address: str = ATTACKER, start: float = 0.0) -> list[Timed]:
    return [
        (
            start + probe * 0.2,
            answered(address, f"/{'abcdefghij'[probe % 10]}{'klmnopqrst'[probe // 10 % 10]}.php", 404),
        )
        for probe in range(number)
    ]


def steady(clients: int, seconds: int, per_minute: int = 30, start: float = 0.0) -> list[Timed]:
    """Return the traffic of some clients that all do the same."""
    return sorted(
        (
            (start + client * 0.01 + tick * 60 / per_minute, answered(f"192.0.2.{client}", f"/{tick % 9}"))
            for client in range(clients)
            for tick in range(seconds * per_minute // 60)
        ),
        key=lambda timed: timed[0],
    )


def test_normal_traffic_makes_no_event() -> None:
    traffic = normal_traffic()
    assert len(traffic) == 10_000
    assert seen(traffic) == []


def test_attacks_within_normal_traffic_make_one_event_each() -> None:
    flood = [(500 + hit / 100, answered("203.0.113.201", "/search")) for hit in range(2_000)]
    fuzzing = [(600 + hit / 5, answered("203.0.113.202", "/order", 422, route="/order")) for hit in range(200)]
    attacks = [*failed_logins(60, start=300), *missing(60, address="203.0.113.203", start=400), *flood, *fuzzing]
    events = seen(sorted([*normal_traffic(), *attacks], key=lambda timed: timed[0]))
    assert {(event["ip_address"], event["rule_type"]) for event in events} == {
        (ATTACKER, "failed_logins"),
        ("203.0.113.203", "scanning"),
        ("203.0.113.201", "request_rate"),
        ("203.0.113.202", "error_ratio"),
    }
    assert len(events) == 4


def test_an_event_tells_who_what_and_the_evidence() -> None:
    (event,) = seen(failed_logins(12))
    SecurityEvent.model_validate(event)
    assert orjson.dumps(event)
    incident = event["metadata"]["incident"]
    assert event == {
        "event_type": EVENT_TYPE,
        "ip_address": ATTACKER,
        "user_agent": AGENTS[0],
        "action_taken": "logged",
        "reason": "10 logins failed from one address within 300 s",
        "endpoint": "/login",
        "method": "POST",
        "status_code": 401,
        "rule_type": "failed_logins",
        "metadata": {
            "detector": "failed_logins",
            "pattern": "brute_force",
            "client": "address",
            "window": 300.0,
            "count": 10,
            "distinct_users": 0,
            "successes": 0,
            "threshold": 10,
            "incident": incident,
            "cooldown": 300.0,
        },
    }
    assert len(bytes.fromhex(incident)) == 8


def test_many_users_from_one_address_are_credential_stuffing() -> None:
    traffic = [
        (attempt * 0.5, answered(ATTACKER, "/login", 401, method="POST", user=f"victim-{attempt}"))
        for attempt in range(30)
    ]
    (event,) = seen(traffic)
    assert event["metadata"]["pattern"] == "credential_stuffing"
    assert event["metadata"]["distinct_users"] == 8


def test_one_user_from_many_addresses_is_a_distributed_attack() -> None:
    traffic = [timed for n in range(12) for timed in failed_logins(1, address=f"198.51.100.{n}", user="root", start=n)]
    (event,) = seen(traffic)
    assert event["metadata"]["pattern"] == "distributed_brute_force"
    assert event["metadata"]["client"] == "user"
    assert event["metadata"]["user"] == "root"


def test_one_user_from_one_address_is_one_incident() -> None:
    assert patterns(seen(failed_logins(40, user="root"))) == ["brute_force"]


def test_an_attack_from_many_addresses_is_told_though_each_of_them_was() -> None:
    addresses = [f"198.51.100.{n}" for n in range(5)]
    guessing = [timed for address in addresses for timed in failed_logins(12, address=address)]
    together = [timed for address in addresses for timed in failed_logins(1, address=address, user="root")]
    events = seen([*sorted(guessing, key=lambda timed: timed[0]), *[(5.0, request) for _, request in together]])
    assert patterns(events) == ["brute_force"] * 5 + ["distributed_brute_force"]


def test_one_user_is_seen_behind_an_address_from_which_many_come_in() -> None:
    def office(n: int) -> Timed:
        path, method = ("/login", "POST") if n % 3 == 0 else ("/home", "GET")
        return n / 20, answered(ATTACKER, path, method=method, user=f"person-{n // 3 % 300}")

    mistyped = failed_logins(1, user="person-0")
    guessing = failed_logins(12, user="root", start=20, every=5)
    others = [office(n) for n in range(2_000)]
    events = seen(sorted([*mistyped, *others, *guessing], key=lambda timed: timed[0]), {"request_rate": None})
    assert [(event["metadata"]["client"], event["metadata"]["pattern"]) for event in events] == [
        ("user", "brute_force")
    ]


def test_requests_of_other_kinds_buy_no_failures() -> None:
    others = [(n / 20, answered(ATTACKER, f"/{n % 9}")) for n in range(2_000)]
    assert patterns(seen(sorted([*others, *failed_logins(12, every=5)], key=lambda timed: timed[0]))) == ["brute_force"]


@pytest.mark.parametrize(
    ("more", "is_failure"),
    [
        ({"path": "/login", "status_code": 401}, True),
        ({"path": "/auth/jwt/login", "status_code": 400}, True),
        ({"path": "/login", "status_code": 403}, True),
        ({"path": "/login", "status_code": 422}, True),
        ({"path": "/oauth/token", "status_code": 400}, True),
        ({"path": "/enter", "status_code": 200, "login": False}, True),
        ({"path": "/api", "status_code": 401, "method": "GET", "credentials": ("basic", 7)}, True),
        ({"path": "/api", "status_code": 401, "method": "GET", "credentials": ("bearer", 7)}, False),
        ({"path": "/api", "status_code": 401, "method": "GET"}, False),
        ({"path": "/login", "status_code": 401, "method": "GET"}, False),
        ({"path": "/login", "status_code": 401, "login": True}, False),
        ({"path": "/admin", "status_code": 403}, False),
        ({"path": "/login/help/page", "status_code": 403}, False),
        ({"path": "/devices/push-token", "status_code": 422}, False),
        ({"path": "/login", "status_code": 429}, False),
    ],
)
def test_what_counts_as_a_failed_login(more: dict[str, Any], is_failure: bool) -> None:
    request = answered(ATTACKER, "/", method="POST")._replace(route=None, **more)
    scheme = request.credentials[0]
    traffic = [(float(n), request._replace(credentials=(scheme, n + 1 if scheme else 0))) for n in range(15)]
    assert bool(seen(traffic, {"error_ratio": None, "enumeration": None})) is is_failure


def test_an_attack_from_an_address_with_much_other_traffic_is_seen() -> None:
    # As from behind the same proxy: many requests, of which one in fifty fails, and then an attack.
    normal = [(n / 50, answered(ATTACKER, f"/{n % 9}", 401 if n % 50 == 0 else 200)) for n in range(2_500)]
    assert seen(normal) == []
    assert patterns(seen([*normal, *failed_logins(20, start=50)])) == ["brute_force"]
    assert patterns(seen([*normal, *missing(60, start=50)])) == ["scanning"]


def test_a_page_whose_session_ended_is_no_attack() -> None:
    page = [(call / 100, answered(ATTACKER, f"/api/{call}", 401)) for call in range(30)]
    assert seen(page) == []


def test_missing_items_of_one_route_are_no_scan_and_a_catch_all_route_hides_none() -> None:
    def lookups(route: str) -> list[Timed]:
        names = ["".join(letters) for letters in itertools.permutations("abcde", 3)][:45]
        return [(n / 10, answered(ATTACKER, f"/items/{name}", 404, route=route)) for n, name in enumerate(names)]

    assert seen(lookups("/items/{number}")) == []
    assert patterns(seen(lookups("/{path}"))) == ["scanning"]


def test_pages_of_one_kind_that_are_gone_are_no_scan() -> None:
    moved = [(n * 4.0, answered(ATTACKER, f"/blog/{2000 + n}/how-we-did-it-{n}", 404)) for n in range(60)]
    assert seen(moved) == []


def test_counting_through_the_objects_of_a_route_is_an_enumeration() -> None:
    traffic = [(n / 2, answered(ATTACKER, f"/items/{n}", 404, route="/items/{number}")) for n in range(100)]
    assert patterns(seen(traffic)) == ["missing_objects"]
    slow = [(at * 60, request) for at, request in traffic + [(50 + at, request) for at, request in traffic]]
    assert "missing_objects" in patterns(seen(slow, {"enumeration": {"slow_objects": 60}}))
    found = [(n / 3, answered(ATTACKER, f"/items/{n}", route="/items/{number}")) for n in range(1_000)]
    assert "harvesting" in patterns(seen(found))
    assert seen([(at, request._replace(user="partner")) for at, request in found]) == []


def test_who_comes_in_after_guessing_is_the_most_severe_incident() -> None:
    came_in = (60.0, answered(ATTACKER, "/login", method="POST"))
    guessed, success = seen([*failed_logins(12), came_in])
    assert (guessed["event_type"], success["event_type"]) == ("behavioral_violation", "penetration_attempt")
    assert success["metadata"]["pattern"] == "success_after_failures"
    assert success["metadata"]["incident"] != guessed["metadata"]["incident"]
    somebody_else = (60.0, came_in[1]._replace(user_agent=AGENTS[5]))
    assert len(seen([*failed_logins(12), somebody_else])) == 1
    assert seen([*failed_logins(7), came_in]) == []


def test_who_comes_in_by_a_name_that_the_application_knows_is_told_once() -> None:
    came_in = (60.0, answered(ATTACKER, "/login", method="POST", user="ann"))
    told = seen([*failed_logins(12, user="ann"), came_in])
    assert patterns(told) == ["brute_force", "success_after_failures"]
    elsewhere = (60.0, answered("203.0.113.201", "/login", method="POST", user="ann"))
    told = seen([*failed_logins(12, user="ann"), elsewhere])
    assert [event["metadata"]["client"] for event in told] == ["address", "user"]


def test_an_attack_on_one_user_from_many_addresses_is_one_incident() -> None:
    traffic = [timed for n in range(99) for timed in failed_logins(1, address=f"198.51.{n}.1", user="ann", start=n * 9)]
    told = [event for event in seen(traffic, {"campaign": None}) if event["metadata"]["client"] == "user"]
    assert len(told) >= 3
    assert len({event["metadata"][CORRELATION_KEY] for event in told}) == 1


def test_failures_from_many_addresses_are_one_incident_of_the_application() -> None:
    traffic = [timed for n in range(60) for timed in failed_logins(1, address=f"198.51.100.{n}", start=n * 4)]
    event, *updates = seen(traffic)
    assert len(updates) <= 3
    assert event["metadata"]["client"] == "application"
    assert event["metadata"]["pattern"] == "logins_from_many_addresses"
    assert event["metadata"]["distinct_addresses"] == pytest.approx(20, abs=2)


def test_a_morning_on_which_many_mistype_is_no_campaign() -> None:
    people = [
        (n * 0.5 + attempt, answered(f"198.51.{n >> 8}.{n & 255}", "/login", 401 if attempt else 200, method="POST"))
        for n in range(500)
        for attempt in ((1, 0) if n % 8 == 0 else (0,))
    ]
    assert seen(sorted(people, key=lambda timed: timed[0])) == []


def test_the_same_refused_password_again_and_again_is_one_failure() -> None:
    again = answered(ATTACKER, "/api", 401)._replace(credentials=("basic", 7))
    assert seen([(float(n), again) for n in range(40)], {"error_ratio": None}) == []


@pytest.mark.parametrize(("profile", "failures"), [("strict", 5), ("balanced", 10), ("relaxed", 20)])
def test_a_profile_says_how_much_is_conspicuous_and_each_number_can_be_changed(profile: Profile, failures: int) -> None:
    def found(number: int, rules: Mapping[str, object] | None = None) -> bool:
        return bool(seen(failed_logins(number), analyzer=BehaviorAnalyzer(rules, profile=profile)))

    assert (found(failures - 1), found(failures)) == (False, True)
    assert (found(6, {"failed_logins": {"failures": 7}}), found(7, {"failed_logins": {"failures": 7}})) == (False, True)
    assert BehaviorAnalyzer({"scanning": None}, profile=profile).rules.scanning is None


def test_a_new_rate_is_told_when_it_begins_and_is_usual_when_it_stays() -> None:
    backup = [(900 + n / 25, answered(ATTACKER, "/export")) for n in range(25 * 4_800)]
    traffic = sorted([*steady(10, 5_700), *backup], key=lambda timed: timed[0])
    analyzer = BehaviorAnalyzer()
    events = [(at, event) for at, request in traffic for event in analyzer.observe(request, at)]
    # What is new is told when it begins; what stays for an hour becomes the client's usual.
    assert {event["rule_type"] for _, event in events} == {"request_rate"}
    assert {event["metadata"]["incident"] for _, event in events} == {events[0][1]["metadata"]["incident"]}
    assert events[0][0] < 1_000
    assert events[-1][0] < 900 + 62 * 60


def test_before_the_application_is_known_only_the_most_of_all_is_an_anomaly() -> None:
    assert seen([(n / 50, answered(ATTACKER)) for n in range(5_000)]) == []
    assert patterns(seen([(n / 100, answered(ATTACKER)) for n in range(5_000)])) == ["request_rate"]


def test_as_many_requests_of_many_users_behind_one_address_are_no_anomaly() -> None:
    office = [(400 + n / 40, answered(ATTACKER, f"/{n % 9}", user=f"person-{n % 90}")) for n in range(2_400)]
    one = [(at, answered(ATTACKER, request.path)) for at, request in office]
    assert seen([*steady(30, 400), *office]) == []
    assert patterns(seen([*steady(30, 400), *one])) == ["request_rate"]


def test_the_evidence_of_a_rate_is_the_distance_from_both_baselines() -> None:
    flood = [(3_720 + n / 100, answered("192.0.2.1")) for n in range(2_000)]
    (event,) = seen([*steady(30, 3_720), *flood])
    metadata = event["metadata"]
    assert metadata["baseline"] == pytest.approx(30, abs=2)
    assert metadata["application_baseline"] == pytest.approx(30, abs=2)
    assert metadata["score"] >= metadata["threshold"] == 6
    assert metadata["count"] >= 1_200


def test_the_files_of_a_page_that_was_replaced_are_no_scan() -> None:
    stale = [(n * 0.1, answered(ATTACKER, f"/assets/{n}-{n * 7919:x}.js", 404, route="/{path}")) for n in range(60)]
    assert seen(stale) == []


def test_nobody_is_an_anomaly_while_the_whole_application_fails() -> None:
    def failing(addresses: int) -> list[Timed]:
        clients = steady(30, 120, per_minute=60)
        return [
            (
                at,
                answered(
                    it.address,
                    "/abcdefghi"[: 2 + int(at) % 8],
                    503 if int(it.address.rpartition(".")[2]) < addresses else 200,
                ),
            )
            for at, it in clients
        ]

    assert seen(failing(30)) == []
    assert {event["ip_address"] for event in seen(failing(1))} == {"192.0.2.0"}


def test_a_client_without_others_is_compared_with_nobody() -> None:
    traffic = [(n / 10, answered(ATTACKER, "/a", 200 if n < 100 else 500, route="/a")) for n in range(400)]
    assert seen(traffic) == []


def test_an_incident_that_goes_on_is_told_after_a_minute_and_then_ever_later_with_what_was_folded() -> None:
    events = seen(failed_logins(3_100, every=0.1))
    assert patterns(events) == ["brute_force"] * 3
    first, second, third = (event["metadata"] for event in events)
    assert "folded" not in first
    assert "update" not in first
    assert (second["update"], third["update"]) == (1, 2)
    assert second["folded"] == pytest.approx(600, abs=40)
    assert third["folded"] == pytest.approx(1_200, abs=40)
    assert first["incident"] == second["incident"] == third["incident"]


@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(0, 2), st.sampled_from([200, 401, 404, 500])), max_size=300),
    st.integers(1, 100),
)
def test_there_is_at_most_one_event_per_client_and_detector_in_a_cool_down(
    steps: list[tuple[float, int, int]], cooldown: int
) -> None:
    rules = {"cooldown": cooldown, "update": cooldown, "error_ratio": {"requests": 5, "others": 1}, "campaign": None}
    analyzer = BehaviorAnalyzer(rules)
    now, told = 0.0, dict[tuple[str, str], float]()
    for passed, client, status in steps:
        now += passed
        for event in analyzer.observe(answered(f"192.0.2.{client}", f"/{now}", status), now):
            incident = event["ip_address"], event["rule_type"]
            assert now - told.get(incident, -1e9) >= cooldown - 1e-6
            told[incident] = now


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.01, 4))
def test_more_failures_never_make_it_less_conspicuous(fewer: int, more: int, every: float) -> None:
    fewer, more = sorted((fewer, more))
    assert len(seen(failed_logins(fewer, every=every))) <= len(seen(failed_logins(more, every=every)))


@given(st.permutations([*range(4)] * 15))
def test_the_order_of_clients_makes_no_difference(order: list[int]) -> None:
    rules = {"error_ratio": None, "request_rate": None}
    numbers = dict.fromkeys(range(4), 0)
    traffic: list[Timed] = []
    for client in order:
        numbers[client] += 1
        failing = numbers[client] <= client * 5
        traffic.append((0.0, answered(f"192.0.2.{client}", "/login", 401 if failing else 200, method="POST")))
    assert {event["ip_address"] for event in seen(traffic, rules)} == {"192.0.2.2", "192.0.2.3"}


def test_how_much_of_an_ipv6_address_counts_is_a_setting() -> None:
    traffic = [
        timed
        for number in range(40)
        for timed in failed_logins(1, address=f"2001:db8:0:{number:x}::1", start=number * 0.1)
    ]
    assert seen(traffic, {"campaign": None}) == []
    (event,) = seen(traffic, analyzer=BehaviorAnalyzer({"campaign": None}, ipv6_prefix=48))
    assert event["metadata"]["client"] == "network (/48)"
    assert seen([(at, answered("::ffff:192.0.2.1", "/login", 401, method="POST")) for at, _ in traffic])


def test_the_addresses_of_one_ipv6_network_are_one_client() -> None:
    traffic = [(float(n), answered(f"2001:db8:1:2::{n + 1:x}", "/login", 401, method="POST")) for n in range(12)]
    (event,) = seen(traffic)
    assert event["metadata"]["client"] == "network (/64)"
    assert event["ip_address"] == "2001:db8:1:2::a"
    assert seen([(float(n), answered(f"2001:db8:1:{n}::1", "/login", 401, method="POST")) for n in range(12)]) == []


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("testclient", "testclient", True),
        ("testclient", "otherclient", False),
    ],
)
def test_who_is_the_same_client(one: str, other: str, same: bool) -> None:
    assert (address_key(one) == address_key(other)) is same


def test_a_user_id_that_reads_like_an_address_is_another_client() -> None:
    assert user_key("192.0.2.1") != address_key("192.0.2.1")
    assert user_key("testclient") != address_key("testclient")


def test_without_an_address_a_user_is_still_a_client() -> None:
    assert seen(failed_logins(30, address="")) == []
    assert patterns(seen(failed_logins(30, address="", user="root"))) == ["brute_force"]


@given(
    st.lists(
        st.tuples(
            st.floats(allow_nan=True, allow_infinity=True),
            st.text(max_size=20) | st.sampled_from(["192.0.2.1", "::1", "::", "1.2.3.4.5", "\ud800", "a\0b"]),
            st.none() | st.text(st.characters(), max_size=20),
            st.text(st.characters(), max_size=20),
            st.integers(0, 999),
        ),
        max_size=30,
    )
)
def test_nothing_that_a_request_holds_or_a_clock_reads_makes_it_raise(
    requests: list[tuple[float, str, str | None, str, int]],
) -> None:
    analyzer = BehaviorAnalyzer({"max_clients": 16})
    for now, address, user, text, status in requests:
        analyzer.observe(AnsweredRequest(address, user, text, text, None, status, 0.0, text), now)


def test_a_clock_that_is_set_back_neither_stops_time_nor_counts_twice() -> None:
    analyzer = BehaviorAnalyzer()
    events = seen(failed_logins(6, start=1_000_000), analyzer=analyzer)
    events += seen(failed_logins(6, start=5), analyzer=analyzer)
    assert patterns(events) == ["brute_force"]
    later = seen(failed_logins(9, start=2_000), analyzer=analyzer)
    assert later == []


def test_threads_that_overtake_each_other_do_not_make_time_run_faster() -> None:
    analyzer = BehaviorAnalyzer()
    for step in range(10_000):
        analyzer.observe(answered(ATTACKER), step / 100)
        analyzer.observe(answered(ATTACKER), step / 100 - 0.009)
    assert analyzer._clock.now == pytest.approx(99.99)


@pytest.mark.slow
def test_a_hundred_thousand_addresses_stay_under_30_megabytes() -> None:
    gc.collect()
    tracemalloc.start()
    try:
        analyzer = BehaviorAnalyzer()
        for number in range(100_000):
            address = f"{10 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.1"
            # Every fourth is a suspect as well.
            status = (200, 200, 404, 401)[number % 4]
            analyzer.observe(answered(address, f"/{number}", status, user_agent=AGENTS[number % 12]), number / 1_000)
        assert tracemalloc.get_traced_memory()[0] < 30e6
    finally:
        tracemalloc.stop()


def test_endless_addresses_users_and_paths_do_not_grow_the_memory() -> None:
    def flood(analyzer: BehaviorAnalyzer, first: int) -> int:
        for number in range(first, first + 3_000):
            address, path = f"2001:db8:{number:x}::1", f"/{number}" + "x" * 8_000
            for status in (401, 404):
                analyzer.observe(answered(address, path, status, user=f"{number}" * 100), number / 10)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        analyzer = BehaviorAnalyzer({"max_clients": 500})
        before = flood(analyzer, 0)
        assert flood(analyzer, 3_000) - before < 50_000
    finally:
        tracemalloc.stop()


def test_a_flood_of_fresh_addresses_does_not_make_an_attacker_forgotten() -> None:
    analyzer = BehaviorAnalyzer({"max_clients": 160, "failed_logins": {"failures": 40}, "campaign": None})
    events: list[Event] = []
    for attempt in range(60):
        events += seen(failed_logins(1, start=attempt), analyzer=analyzer)
        for fresh in range(8):
            events += seen(failed_logins(1, address=f"10.{attempt}.{fresh}.1", start=attempt), analyzer=analyzer)
    assert [event["ip_address"] for event in events] == [ATTACKER]


def test_requests_of_several_threads_are_all_counted() -> None:
    analyzer = BehaviorAnalyzer({"failed_logins": {"failures": 1_000, "day_failures": 1_000}})
    told: list[Event] = []

    def attack(first: int) -> None:
        for attempt in range(250):
            told.extend(analyzer.observe(answered(ATTACKER, "/login", 401, method="POST"), (first + attempt) / 1_000))

    threads = [threading.Thread(target=attack, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert patterns(told) == ["brute_force"]
    assert told[0]["metadata"]["count"] == 1_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_a_fork_observes_though_the_parent_held_the_lock() -> None:
    analyzer = BehaviorAnalyzer()
    with analyzer.lock:
        pid = os.fork()
        if pid == 0:
            analyzer.observe(answered(ATTACKER), 0.0)
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_a_detector_can_be_switched_off_and_a_threshold_changed() -> None:
    assert seen(failed_logins(60), {"failed_logins": None}) == []
    assert seen(failed_logins(60), {"failed_logins": {"failures": 100}}) == []
    assert len(seen(failed_logins(3), {"failed_logins": {"failures": 3}})) == 1
    assert len(seen(missing(5), {"scanning": {"paths": 5}})) == 1
    off = dict.fromkeys(("failed_logins", "scanning", "request_rate", "error_ratio"))
    assert seen([*failed_logins(60), *missing(60, start=10)], off) == []


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"scaning": {}}, ("'scaning'", "failed_logins, scanning")),
        ({"scanning": {"path": 3}}, ("behavior_rules.scanning", "'path'", "window, paths")),
        ({"scanning": 3}, ("scanning", "3", "object")),
        ({"scanning": {"paths": "many"}}, ("scanning.paths", "'many'", "whole number from 1 to 200")),
        ({"scanning": {"paths": 2.5}}, ("scanning.paths", "2.5", "whole number")),
        ({"scanning": {"paths": True}}, ("scanning.paths", "True")),
        ({"scanning": {"statuses": 404}}, ("scanning.statuses", "404", "[404]")),
        ({"scanning": {"statuses": [200]}}, ("scanning.statuses", "200", "from 400 to 599")),
        ({"failed_logins": {"users": 0}}, ("failed_logins.users", "0", "from 1 to 200")),
        ({"failed_logins": {"attempts_share": 2}}, ("failed_logins.attempts_share", "2", "from 0 to 1")),
        ({"cooldown": float("nan")}, ("cooldown", "nan", "a number")),
        ({"request_rate": {"score": float("inf")}}, ("request_rate.score", "inf")),
        ({"cooldown": None}, ("cooldown", "None", "a number")),
        ({"max_clients": 0}, ("max_clients", "0", "from 16")),
    ],
)
def test_a_wrong_rule_is_refused_with_its_name_its_value_and_the_remedy(
    rules: Mapping[str, object], words: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="behavior_rules") as refused:
        BehaviorAnalyzer(rules)
    for word in words:
        assert word in str(refused.value)


def test_who_guesses_all_day_is_seen_though_no_hour_has_many() -> None:
    (told,) = seen([(attempt * 600.0, answered(ATTACKER, "/login", 401, method="POST")) for attempt in range(100)])
    assert (told["metadata"]["pattern"], told["metadata"]["window"]) == ("brute_force", 86_400)
    assert told["metadata"]["count"] >= 100


def test_who_tries_every_account_that_is_closed_to_it_enumerates() -> None:
    traffic = [(float(n), answered(ATTACKER, f"/accounts/{n}", 403, route="/accounts/{id}")) for n in range(90)]
    assert patterns(seen(traffic, {"error_ratio": None})) == ["missing_objects"]


@pytest.mark.parametrize(("numbers", "told"), [(500, ["harvesting"]), (300, [])])
def test_only_who_reads_ever_more_harvests(numbers: int, told: list[str]) -> None:
    """People behind one address come back to what others have read; who reads all that there is doesn't."""
    traffic = [
        (n / 10, answered(ATTACKER, f"/items/{n % numbers}", 200, route="/items/{number}")) for n in range(1_500)
    ]
    assert patterns(seen(traffic, {"request_rate": {"most": 10_000}}))[:1] == told


def test_made_up_user_agents_are_not_many_people() -> None:
    traffic = [
        (n / 4, answered(ATTACKER, f"/items/{n}", 200, route="/items/{number}")._replace(user_agent=f"Browser/{n}"))
        for n in range(1_100)
    ]
    assert patterns(seen(traffic))[:1] == ["harvesting"]


def test_those_who_fail_and_come_in_are_no_campaign() -> None:
    def crowd(comes_in: bool) -> list[Timed]:
        found: list[Timed] = []
        for person in range(120):
            address, at = f"198.51.100.{person}", person * 2.0
            found.append((at, answered(address, "/login", 401, method="POST")))
            if comes_in:
                found.append((at + 5, answered(address, "/login", 200, method="POST")))
        return sorted(found, key=lambda timed: timed[0])

    assert patterns(seen(crowd(comes_in=False)))[:1] == ["logins_from_many_addresses"]
    assert seen(crowd(comes_in=True)) == []
