"""Status reports of a delivery: at the start, now and then, when the state changes, and at the end."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest
from support.guard_server import Answer, GuardServer, guard_server
from support.redis import eventually

from opentelemetry_guard import DynamicRules
from opentelemetry_guard.delivery.breaker import BreakerState
from opentelemetry_guard.delivery.control import REPORTS, RULES
from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.delivery.outcome import Outcome, RulesAnswer, Verdict
from opentelemetry_guard.delivery.transport import signature
from opentelemetry_guard.events.codec import complete, to_row
from opentelemetry_guard.models import AgentStatus
from opentelemetry_guard.queue.base import Batch
from opentelemetry_guard.settings.delivery import GuardConfig

WATCHDOG = 60.0


class Question:
    """A question for rules, as the control sees it."""

    starts_in_child = False

    def __init__(self) -> None:
        self.due_at = 0.0
        self.asked = threading.Event()

    def run(self) -> None:
        self.due_at = float("inf")
        self.asked.set()

    def after_fork_in_child(self) -> None:
        """There is nothing to begin anew."""


class Receiving:
    """A transport that keeps the reports, and answers none before it `may_answer`."""

    def __init__(self, *, may_answer: bool = True) -> None:
        self.statuses: list[AgentStatus] = []
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        if may_answer:
            self.may_answer.set()

    def send(self, batch: Batch, timeout: float = float("inf")) -> Outcome:
        return Outcome(Verdict.ACCEPTED, 200)

    def fetch_rules(self, etag: str | None, timeout: float = float("inf")) -> RulesAnswer:
        return RulesAnswer(Outcome(Verdict.ACCEPTED, 204))

    def send_status(self, status: AgentStatus, timeout: float = float("inf")) -> Outcome:
        self.statuses.append(status)
        self.asked.set()
        assert self.may_answer.wait(WATCHDOG)
        return Outcome(Verdict.ACCEPTED, 200)

    def close(self) -> None:
        """Nothing is open."""


def config(server: GuardServer, **settings: object) -> GuardConfig:
    return GuardConfig.resolve({}, **{**server.settings, "status_interval": 300, **settings})


def delivery(server: GuardServer, **settings: object) -> Delivery:
    made = Delivery(config(server, **settings))
    made.start()
    return made


def wait_for_due_reports() -> None:
    """Wait until every report that is due now was made: what is due as well, and came later, has its turn then."""
    last = Question()
    REPORTS.add(last)
    assert last.asked.wait(WATCHDOG)
    REPORTS.remove(last)


def events(*reasons: str) -> list[Any]:
    return [complete(to_row({"event_type": "ip_blocked", "reason": reason})[0]) for reason in reasons]


def wait_for_statuses(server: GuardServer, count: int) -> list[dict[str, Any]]:
    server.wait_until(lambda: len(server.statuses) >= count, f"{count} statuses")
    return [request.document for request in server.statuses]


def test_a_status_is_posted_at_the_start_without_any_row_and_another_one_at_the_end() -> None:
    with guard_server() as server:
        made = delivery(server)
        [first] = wait_for_statuses(server, 1)
        made.submit("events", events("a", "b"))
        assert made.flush(WATCHDOG)
        made.close(WATCHDOG)
        [_, last] = wait_for_statuses(server, 2)
    assert (first["status"], first["events_sent"], first["last_flush"], first["errors"]) == ("healthy", 0, None, [])
    assert (last["status"], last["events_sent"], last["buffer_size"]) == ("healthy", 2, 0)
    assert last["last_flush"] is not None
    assert last["uptime"] >= first["uptime"]


def test_it_is_posted_again_and_again_at_the_interval() -> None:
    with guard_server() as server:
        made = delivery(server, status_interval=1)
        wait_for_statuses(server, 3)
        made.close(WATCHDOG)


def test_a_rule_that_is_not_enforced_is_reported_at_once() -> None:
    with guard_server() as server:
        made = delivery(server)
        wait_for_statuses(server, 1)
        made._reporter._reported_at = float("-inf")  # type: ignore[union-attr]  # changes are told after 10 s at most
        rules = DynamicRules(suspicious_patterns=[r"(a)\1"])
        assert rules.decide(endpoint="/aa")
        [_, told] = wait_for_statuses(server, 2)
        made.close(WATCHDOG)
    assert told["status"] == "degraded"
    assert "suspicious_patterns" in told["errors"][0]


def test_an_interval_of_zero_posts_none() -> None:
    with guard_server() as server:
        made = delivery(server, status_interval=0)
        made.submit("events", events("a"))
        assert made.flush(WATCHDOG)
        made.close(WATCHDOG)
        assert server.statuses == []


def test_without_a_key_there_is_none_and_a_status_in_words() -> None:
    with guard_server() as server:
        made = delivery(server, api_key=None)
        made.submit("events", events("a"))
        made.flush(1.0)
        status = made.status()
        made.close(1.0)
        assert server.statuses == []
    assert status.status == "failed"
    assert "OTEL_EXPORTER_GUARD_API_KEY" in status.errors[0]
    assert status.buffer_size == 1


def test_other_settings_for_the_same_backend_are_no_reason_for_another_report() -> None:
    with guard_server() as server:
        made = delivery(server)
        wait_for_statuses(server, 1)
        for number in range(1, 4):
            made.reconfigure(config(server, batch_size=number))
            wait_for_due_reports()
        assert len(server.statuses) == 1
        made.close(WATCHDOG)
        assert len(server.statuses) == 2


def test_settings_that_lead_elsewhere_are_reported_there_at_once() -> None:
    with guard_server() as server, guard_server() as other:
        made = delivery(server)
        wait_for_statuses(server, 1)
        made.reconfigure(config(other))
        wait_for_statuses(other, 1)
        made.close(WATCHDOG)
        assert (len(server.statuses), len(other.statuses)) == (1, 2)


def test_whoever_comes_while_a_report_is_under_way_to_another_gets_one() -> None:
    with guard_server() as server:
        made = delivery(server, api_key=None)
        slow, fresh = Receiving(may_answer=False), Receiving()
        made.use_transport(slow)
        assert slow.asked.wait(WATCHDOG)
        made.use_transport(fresh)
        slow.may_answer.set()
        assert fresh.asked.wait(WATCHDOG)
        wait_for_due_reports()
        made.close(WATCHDOG)
    assert (len(slow.statuses), len(fresh.statuses)) == (1, 2)


def test_without_a_key_the_reports_end_with_the_transport_that_needs_none() -> None:
    with guard_server() as server:
        made = delivery(server, api_key=None)
        own = Receiving()
        made.use_transport(own)
        assert own.asked.wait(WATCHDOG)
        made.use_transport(None)
        made.close(WATCHDOG)
        assert (len(own.statuses), server.statuses) == (1, [])


def test_the_right_key_is_taken_up_at_once_where_the_first_report_was_refused() -> None:
    with guard_server() as server:
        made = delivery(server, api_key="a wrong one")
        eventually(lambda: made.stats().routes["status"].last_error is not None)
        made.reconfigure(config(server))
        wait_for_statuses(server, 2)
        wait_for_due_reports()
        assert len(server.statuses) == 2
        made.close(WATCHDOG)


def test_a_new_interval_counts_at_once_and_one_of_zero_ends_the_reports() -> None:
    with guard_server() as server:
        made = delivery(server)
        wait_for_statuses(server, 1)
        made.reconfigure(config(server, status_interval=1))
        wait_for_statuses(server, 2)
        made.reconfigure(config(server, status_interval=0))
        wait_for_due_reports()
        before = len(server.statuses)
        made.close(WATCHDOG)
        assert len(server.statuses) == before


def test_a_status_is_signed_like_every_body() -> None:
    with guard_server() as server:
        made = delivery(server, signing_secret="s3cret")
        wait_for_statuses(server, 1)
        made.close(0.0)
        [request] = server.statuses
        assert request.headers["x-payload-signature"] == signature("s3cret", request.body)
        assert request.headers["x-project-id"] == "test-project"


def test_a_change_of_the_state_is_reported_before_the_interval_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opentelemetry_guard.delivery.reporter.CHANGE_SECONDS", 0.01)
    with guard_server() as server:
        made = delivery(server, breaker_failures=1, breaker_recovery=0.2, breaker_max_recovery=0.2)
        wait_for_statuses(server, 1)
        server.answer(503, b"down for maintenance", times=3)
        made.submit("events", events("a"))

        def told(status: str) -> list[dict[str, Any]]:
            return [each.document for each in server.statuses if each.document["status"] == status]

        server.wait_until(lambda: bool(told("degraded")), "a degraded status")
        [degraded, *_] = told("degraded")
        server.wait_until(lambda: server.statuses[-1].document["status"] == "healthy", "a healthy status")
        made.close(WATCHDOG)
    assert "down for maintenance" in degraded["errors"][0]


def test_a_refused_key_is_asked_about_once_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with guard_server(api_key="another") as server:
        made = delivery(server, api_key="s3cr3t-of-mine", status_interval=1)
        wait_for_statuses(server, 1)
        made.submit("events", events("a"))
        made.flush(WATCHDOG)
        status = made.status()
        assert len(server.statuses) == 1
        made.close(0.1)
    assert len([text for text in caplog.messages if "check OTEL_EXPORTER_GUARD_API_KEY" in text]) == 1
    assert status.status == "failed"
    assert "s3cr3t-of-mine" not in repr(status) + caplog.text


def test_failing_reports_open_a_breaker_of_their_own_and_rows_go_on() -> None:
    with guard_server() as server:
        server.control = Answer(503, b"no")
        made = delivery(server, status_interval=1, breaker_failures=1, breaker_recovery=3600, breaker_max_recovery=3600)

        def is_given_up() -> bool:
            reports = made.stats().routes["status"]
            return reports.breaker is BreakerState.OPEN and reports.last_error == "503 no"

        eventually(is_given_up)
        made.submit("events", events("a"))
        assert made.flush(WATCHDOG)
        routes = made.stats().routes
        made.close(WATCHDOG)
        assert len(server.statuses) == 1
    assert routes["events"].breaker is BreakerState.CLOSED
    assert routes["status"].last_error == "503 no"


def test_a_report_that_is_refused_is_said_once_and_until_one_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    with guard_server() as server:
        server.control = Answer(422, b'{"detail": "uptime is missing"}')
        made = delivery(server, status_interval=1)
        wait_for_statuses(server, 2)
        eventually(lambda: made.stats().routes["status"].last_error is not None)
        refused = made.status()
        server.control = None
        eventually(lambda: made.status().status == "healthy")
        made.close(WATCHDOG)
    assert refused.status == "degraded"
    assert refused.errors == ['status reports fail: 422 {"detail": "uptime is missing"}']
    assert len([text for text in caplog.messages if "uptime is missing" in text]) == 1


def test_a_report_that_hangs_delays_no_rules() -> None:
    with guard_server() as server:
        server.control = Answer(delay=3600.0)
        made = delivery(server)
        server.wait_until(lambda: len(server.statuses) == 1, "a status")
        question = Question()
        RULES.add(question)
        assert question.asked.wait(WATCHDOG)
        RULES.remove(question)
        made.close(0.0)


def test_a_report_that_hangs_delays_no_row_and_no_shutdown() -> None:
    with guard_server() as server:
        server.control = Answer(delay=3600.0)
        made = delivery(server, status_interval=1)
        server.wait_until(lambda: len(server.statuses) == 1, "a status")
        made.submit("events", events("a"))
        assert made.flush(WATCHDOG)
        closing = threading.Thread(target=made.close, args=(3.0,))
        closing.start()
        closing.join(WATCHDOG)
        assert not closing.is_alive()
        assert len(server.statuses) == 1


def test_several_deliveries_report_on_one_thread_which_ends_with_them() -> None:
    def control_threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "OtelGuardReports"]

    with guard_server() as server:
        made = [delivery(server, project_id=name) for name in ("one", "two")]
        wait_for_statuses(server, 2)
        [thread] = control_threads()
        for each in made:
            each.close(WATCHDOG)
        thread.join(WATCHDOG)
    assert control_threads() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_reports_for_itself_once_it_has_something_to_deliver() -> None:
    with guard_server() as server:
        made = delivery(server)
        wait_for_statuses(server, 1)
        pid = os.fork()
        if pid == 0:
            try:
                made.submit("events", events("child"))
                made.flush(WATCHDOG)
                deadline = time.monotonic() + WATCHDOG
                # The parent's server counts; the child only has to stay alive until it is told.
                while made.route("status").breaker.transitions == 0 and time.monotonic() < deadline:
                    if made._reporter is not None and made._reporter._reported is not None:
                        os._exit(0)
                os._exit(1)
            finally:
                os._exit(2)
        wait_for_statuses(server, 2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        made.close(WATCHDOG)
