"""Rate limits hold in every window, whatever its position, and in bounded memory."""

from __future__ import annotations

import time
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.rules.bans import OFFENCE_SECONDS, Bans
from opentelemetry_guard.rules.limits import DEFAULT_WINDOW, Limit, Limits, RateLimiter


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


LIMIT = Limit("", 3, 10)


def test_as_many_requests_pass_as_the_limit_says_and_then_none_until_the_time_told() -> None:
    clock = Clock()
    limiter = RateLimiter(clock=clock)
    for _ in range(3):
        assert limiter.refusal("a", [LIMIT]) is None
        clock.now += 1
    refused = limiter.refusal("a", [LIMIT])
    assert refused is not None
    assert (refused.limit, refused.retry_after) == (LIMIT, 7)
    clock.now += refused.retry_after
    assert limiter.refusal("a", [LIMIT]) is None
    assert limiter.refusal("a", [LIMIT]) is not None


def test_clients_have_a_budget_each() -> None:
    limiter = RateLimiter(clock=Clock())
    limit = Limit("", 1, 10)
    assert [limiter.refusal(client, [limit]) is None for client in ("a", "b", "a")] == [True, True, False]


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(1, 5))
def test_no_window_of_any_position_holds_more_than_the_limit_and_every_wait_told_is_true(
    pauses: list[int], most: int
) -> None:
    clock = Clock()
    limiter, limit, passed = RateLimiter(clock=clock), Limit("", most, 10), deque[float]()
    for pause in pauses:
        clock.now += pause
        recent = [time for time in passed if time > clock.now - limit.window]
        refused = limiter.refusal("a", [limit])
        assert (refused is None) == (len(recent) < most)
        if refused is None:
            passed.append(clock.now)
        else:
            assert clock.now + refused.retry_after == passed[-most] + limit.window


def test_a_request_that_one_limit_refuses_counts_for_none() -> None:
    limiter = RateLimiter(clock=Clock())
    endpoint, everywhere = Limit("/a", 2, 10), Limit("", 1, 10)
    assert limiter.refusal("a", [endpoint, everywhere]) is None
    for _ in range(5):
        refused = limiter.refusal("a", [endpoint, everywhere])
        assert refused is not None
        assert refused.limit is everywhere
    assert limiter.refusal("a", [endpoint]) is None


def test_a_limit_of_none_lets_nobody_pass() -> None:
    refused = RateLimiter(clock=Clock()).refusal("a", [Limit("/a", 0, 10)])
    assert refused is not None
    assert refused.retry_after == 10


def test_a_limit_that_changes_keeps_what_has_passed() -> None:
    limiter = RateLimiter(clock=Clock())
    for _ in range(3):
        assert limiter.refusal("a", [Limit("", 3, 10)]) is None
    assert limiter.refusal("a", [Limit("", 2, 10)]) is not None
    assert limiter.refusal("a", [Limit("", 4, 10)]) is None


def test_memory_is_bounded_by_clients_and_by_times() -> None:
    limiter = RateLimiter(most_clients=10, most_times=50, clock=Clock())
    for client in range(100):
        assert limiter.refusal(str(client), [Limit("", 1, 10)]) is None
    assert len(limiter._passed) == 10
    for client in range(20):
        for _ in range(20):
            assert limiter.refusal(f"busy {client}", [Limit("", 30, 10)]) is None
    assert sum(map(len, limiter._passed.values())) == limiter._remembered <= 50


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/login", ["/login", ""]),
        ("/login/", [""]),
        ("/items/7", ["/items/{number}", ""]),
        ("/items/special", ["/items/special", ""]),
        ("/items/7/parts", [""]),
        ("/items/", [""]),
        ("/files/a/b.txt", ["/files/{name:path}", ""]),
        ("/v1.0/x", ["/v1.0/{rest:int}", ""]),
        ("/v1x0/x", [""]),
    ],
)
def test_a_path_keeps_its_endpoints_limit_and_the_global_one(path: str, names: list[str]) -> None:
    paths = ["/login", "/items/{number}", "/items/special", "/files/{name:path}", "/v1.0/{rest:int}"]
    limits = Limits(100, None, dict.fromkeys(paths, (1, 10)))
    assert [limit.name for limit in limits.of(path)] == names
    assert limits.of(path)[-1] == Limit("", 100, DEFAULT_WINDOW)


@pytest.mark.parametrize("given", [None, 0])
def test_without_a_number_there_is_no_global_limit(given: int | None) -> None:
    assert not Limits(given, 60, {})


def test_wrong_limits_are_told_and_void_no_others() -> None:
    limits = Limits(-1, 60, {"/a": (1, 0), "/b": (1, 1)})
    assert len(limits.problems) == 2
    assert limits.problems[1].startswith("endpoint_rate_limits['/a'] is 1 requests in 0 s and is ignored")
    assert [limit.name for limit in limits.of("/b")] == ["/b"]
    assert limits.of("/a") == ()


def test_the_last_offence_of_a_series_bans_for_a_while() -> None:
    clock = Clock()
    bans = Bans(clock=clock)
    assert [bans.offend("a", 3, 60) for _ in range(3)] == [False, False, True]
    assert bans.holds("a")
    assert not bans.holds("b")
    clock.now += 60
    assert not bans.holds("a")
    assert not bans.offend("a", 3, 60)


def test_offences_expire() -> None:
    clock = Clock()
    bans = Bans(clock=clock)
    for _ in range(3):
        assert not bans.offend("a", 2, 60)
        clock.now += OFFENCE_SECONDS
    assert not bans.offend("a", 2, 60)
    assert bans.offend("a", 2, 60)


def test_offenders_and_bans_are_bounded() -> None:
    bans = Bans(most_clients=10, clock=Clock())
    for client in range(100):
        bans.offend(f"once {client}", 2, 60)
        bans.offend(f"banned {client}", 1, 60)
    assert len(bans._offences) == len(bans._ends) == 10
    assert bans.holds("banned 99")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/b/c", "/a/{rest:path}"),
        ("/a/b", "/a/{rest:path}"),
        ("/zz", "/{one}"),
        ("/", None),
        ("/A/b", None),
        ("/f/1/2/m", "/f/{rest:path}/m"),
        ("/f/" + "x/" * 3000 + "m", "/f/{rest:path}/m"),
        ("/report-7.pdf", "/{one}"),
        ("/r/report-7.pdf", "/r/report-{number}.pdf"),
        ("/R/report-7.pdf", None),
        ("/r/report-.pdf", None),
    ],
)
def test_of_templates_the_first_that_a_path_has_applies(path: str, name: str | None) -> None:
    templates = ["/a/{rest:path}", "/a/{b}", "/{one}", "/f/{rest:path}/m", "/r/report-{number}.pdf", "/report-{x}.pdf"]
    limits = Limits(None, None, dict.fromkeys(templates, (1, 60)))
    assert [limit.name for limit in limits.of(path)] == ([] if name is None else [name])


@pytest.mark.parametrize("template", ["/api/v{0}/items{0}/{{id}}/x", "/f{0}/a-{{x}}.json", "/f{0}/{{x:path}}"])
def test_a_thousand_limits_cost_about_as_much_as_ten(template: str) -> None:
    few, many = (
        Limits(None, None, {template.format(number): (5, 60) for number in range(count)}) for count in (10, 1000)
    )

    def seconds(limits: Limits) -> float:
        begin = time.thread_time()
        for number in range(500):
            limits.of(f"/api/v3/other/{number}/x")
        return time.thread_time() - begin

    assert min(seconds(many) for _ in range(3)) < 10 * min(seconds(few) for _ in range(3))
