"""A route: breaker, limiter and what the server asked for, together."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from opentelemetry_guard.delivery.breaker import BreakerPolicy, BreakerState
from opentelemetry_guard.delivery.limiter import FIRST_RATE, FLEET_RESTART_RATE
from opentelemetry_guard.delivery.outage import LASTS, PROBES, Outage
from opentelemetry_guard.delivery.outcome import Outcome, Verdict
from opentelemetry_guard.delivery.route import FIRST_HOLD_SECONDS, HOLD_SECONDS, REFUSED_PAUSE, Route
from opentelemetry_guard.delivery.telling import QUIET_SECONDS, Telling
from opentelemetry_guard.queue.base import KINDS

ACCEPTED = Outcome(Verdict.ACCEPTED, 200)
RETRY = Outcome(Verdict.RETRY, 500, "broken")


def after(
    *outcomes: Outcome, policy: BreakerPolicy | None = None, uniform: Callable[[float, float], float] = min
) -> Route:
    route = Route("events", policy, uniform=uniform)
    for outcome in outcomes:
        route.begin(100.0)
        route.settle(outcome, 100.0)
    return route


def test_what_the_server_asks_for_rules_over_the_backoff() -> None:
    route = after(Outcome(Verdict.RETRY, 503, retry_after=60.0))
    assert route.ready_at(100.0) == 160.0
    route.hurry(100.0)
    assert route.ready_at(100.0) == 160.0


@pytest.mark.parametrize("status", [429, 500, 503])
def test_as_long_again_may_come_on_top_so_that_a_fleet_does_not_return_at_one_moment(status: int) -> None:
    assert after(Outcome(Verdict.RETRY, status, retry_after=300.0), uniform=max).ready_at(100.0) == 700.0


def failing_for_long(status: int) -> Route:
    """Return a route of a fleet that has met nothing but one status for as long as makes an outage."""
    route = Route("events", outage=Outage(int(100 * PROBES), uniform=max), uniform=min)
    for now in (0.0, LASTS):
        route.begin(now)
        route.settle(Outcome(Verdict.RETRY, status), now)
    return route


@pytest.mark.parametrize("status", [0, 429, 502, 503, 504])
def test_nobody_who_answers_is_an_outage_as_refusals_are(status: int) -> None:
    route = failing_for_long(status)
    assert route.ready_at(LASTS) == LASTS + 100.0


@pytest.mark.parametrize("status", [200, 408, 500])
def test_what_may_be_about_one_batch_is_no_outage(status: int) -> None:
    route = failing_for_long(status)
    assert route.ready_at(LASTS) < LASTS + 10.0


def test_routes_of_one_destination_wait_for_their_turn_together_and_one_of_them_tries() -> None:
    outage = Outage(int(100 * PROBES), uniform=max)
    events, metrics = (Route(name, outage=outage, uniform=min) for name in KINDS)
    for now in (0.0, LASTS):
        events.begin(now)
        events.settle(Outcome(Verdict.RETRY, 503), now)
    now = outage.ready_at
    assert events.ready_at(LASTS) == metrics.ready_at(LASTS) == now == LASTS + 100.0
    metrics.begin(now)
    assert events.ready_at(now) > now
    metrics.settle(ACCEPTED, now)
    assert events.ready_at(now + 10.0) == now + 10.0


def test_after_an_outage_every_route_begins_slowly() -> None:
    outage = Outage(int(100 * PROBES), uniform=min)
    events, metrics = (Route(name, outage=outage, uniform=min) for name in KINDS)
    for now in (0.0, LASTS):
        events.begin(now)
        events.settle(Outcome(Verdict.RETRY, 503), now)
    for route in (events, metrics):
        route.begin(200.0)
        route.settle(ACCEPTED, 200.0)
        assert route.limiter.rate == FLEET_RESTART_RATE
        assert route.ready_at(200.0) == 200.0 + 1.0 / FLEET_RESTART_RATE


def test_a_retry_after_of_a_success_is_of_no_account() -> None:
    assert after(Outcome(Verdict.ACCEPTED, 202, retry_after=60.0)).ready_at(100.0) == 100.0


@pytest.mark.parametrize("status", [429, 503])
def test_an_overloaded_backend_is_asked_less_often(status: int) -> None:
    assert after(Outcome(Verdict.RETRY, status)).limiter.rate == FIRST_RATE / 2


def test_a_timeout_slows_down_and_a_plain_failure_does_not() -> None:
    assert after(Outcome(Verdict.RETRY, timed_out=True)).limiter.rate == FIRST_RATE / 2
    assert after(RETRY).limiter.rate == FIRST_RATE


@pytest.mark.parametrize("verdict", [Verdict.ACCEPTED, Verdict.PARTIAL, Verdict.REFUSED, Verdict.TOO_LARGE])
def test_every_answer_about_the_batch_itself_shows_that_the_route_works(verdict: Verdict) -> None:
    route = after(RETRY, policy=BreakerPolicy(failures=1))
    assert route.breaker.state is BreakerState.OPEN
    route.begin(200.0)
    route.settle(Outcome(verdict, 200), 200.0)
    assert route.breaker.state is BreakerState.CLOSED
    assert route.last_error is None
    assert route.ready_at(200.0) == 200.0 + (REFUSED_PAUSE if verdict is Verdict.REFUSED else 0.0)


def test_a_refused_key_holds_the_route_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        first = after(*[Outcome(Verdict.MISCONFIGURED, 401, f"request {n}: unknown key") for n in range(3)])
        second = after(Outcome(Verdict.MISCONFIGURED, 401, "request 9: unknown key"))
    assert (first.ready_at(100.0), second.ready_at(100.0)) == (120.0, 105.0)
    assert first.held_for == "401 request 2: unknown key"
    assert [record.message for record in caplog.records if "OTEL_EXPORTER_GUARD_API_KEY" in record.message]
    assert len(caplog.records) == 1


def test_a_refused_key_is_tried_again_after_twice_as_long_each_time_up_to_a_bound() -> None:
    refused = Outcome(Verdict.MISCONFIGURED, 401, "unknown key")
    pauses = [after(*[refused] * times).ready_at(100.0) - 100.0 for times in range(1, 9)]
    assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, HOLD_SECONDS, HOLD_SECONDS]
    assert after(refused, refused, ACCEPTED, refused).ready_at(100.0) == 105.0


def test_a_refusal_that_costs_the_batch_is_tried_less_often() -> None:
    final = Outcome(Verdict.MISCONFIGURED, 401, "no", is_final=True)
    assert after(final).ready_at(100.0) == 100.0 + FIRST_HOLD_SECONDS


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_outage_is_one_line_when_it_begins_and_one_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    telling = Telling("Guard")
    events, metrics = (Route(name, uniform=min, telling=telling) for name in KINDS)
    for now in range(10):
        for route in (events, metrics):
            route.begin(now)
            route.settle(Outcome(Verdict.RETRY, 0, "connection refused"), now)
    for route in (metrics, events, metrics):
        route.begin(20.0)
        route.settle(ACCEPTED, 20.0)
    begun, over = told(caplog)
    assert begun.startswith("the Guard backend can't be used now, for events (connection refused)")
    assert over == "the Guard backend takes events again"


def test_a_backend_that_comes_and_goes_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    route = Route("events", uniform=min, telling=Telling("Guard"))
    for now in range(0, 600):
        route.begin(now)
        route.settle(ACCEPTED if now % 2 else RETRY, now)
    assert len(told(caplog)) <= 2 * 600 / QUIET_SECONDS


def test_being_asked_to_slow_down_is_told_where_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    route = Route("events", BreakerPolicy(failures=3), uniform=min, telling=Telling("Guard"))
    for expected in (0, 0, 1, 1):
        route.begin(1.0)
        route.settle(Outcome(Verdict.RETRY, 429, "slowly"), 1.0)
        assert len(told(caplog)) == expected


def test_a_refused_keys_end_is_told(caplog: pytest.LogCaptureFixture) -> None:
    route = Route("events", uniform=min, telling=Telling("Guard"))
    for outcome in (Outcome(Verdict.MISCONFIGURED, 401, "no"), ACCEPTED):
        route.begin(1.0)
        route.settle(outcome, 1.0)
    assert told(caplog)[-1] == "the Guard backend takes events again"


def test_what_may_be_a_proxys_answer_holds_the_route_for_longer_and_longer() -> None:
    stranger = Outcome(Verdict.MISCONFIGURED, 404, "default backend - 404", may_pass=True)
    pauses = [after(*[stranger] * times).ready_at(100.0) - 100.0 for times in (1, 2, 9)]
    assert pauses == [FIRST_HOLD_SECONDS, 2 * FIRST_HOLD_SECONDS, HOLD_SECONDS]
    assert after(*[stranger] * 9, ACCEPTED, stranger).ready_at(100.0) == 100.0 + FIRST_HOLD_SECONDS


def test_refusals_of_rows_do_not_speed_a_route_up() -> None:
    slow = [Outcome(Verdict.RETRY, 503)] * 3
    assert after(*slow, Outcome(Verdict.REFUSED, 422)).limiter.rate == after(*slow).limiter.rate


def test_a_held_route_resumes_when_the_key_works() -> None:
    route = after(Outcome(Verdict.MISCONFIGURED, 401, "no"), ACCEPTED)
    assert route.held_for is None
    assert route.ready_at(100.0) == 100.0


def test_every_transition_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        route = after(RETRY, policy=BreakerPolicy(failures=1))
        route.begin(200.0)
        route.settle(ACCEPTED, 200.0)
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "OPEN (500 broken)",
        "HALF_OPEN",
        "CLOSED",
    ]


def test_the_limiter_counts_beside_an_open_breaker() -> None:
    route = after(*[Outcome(Verdict.RETRY, 503)] * 30, policy=BreakerPolicy(failures=1, max_recovery=1.0))
    assert route.limiter.rate == 0.1
    assert route.ready_at(100.0) == pytest.approx(110.0)


@pytest.mark.parametrize(
    ("outcome", "left"), [(ACCEPTED, BreakerState.CLOSED), (RETRY, BreakerState.OPEN)], ids=["accepted", "failed"]
)
def test_whoever_is_told_of_an_answer_finds_the_route_as_the_answer_has_left_it(
    outcome: Outcome, left: BreakerState
) -> None:
    seen: list[BreakerState] = []
    route = Route("events", BreakerPolicy(failures=1), lambda *_: seen.append(route.breaker.state), uniform=min)
    for now, answer in ((0.0, RETRY), (100.0, outcome)):
        route.begin(now)
        route.settle(answer, now)
    assert seen == [BreakerState.OPEN, left]
