"""The rules client: takes over what the backend serves, keeps it over outages and restarts, and tells subscribers."""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from support.guard_server import Answer, guard_server
from support.redis import eventually

from opentelemetry_guard import GuardLogExporter, rules
from opentelemetry_guard.delivery.control import Control
from opentelemetry_guard.delivery.outcome import Outcome, RulesAnswer, Verdict
from opentelemetry_guard.delivery.route import Route
from opentelemetry_guard.delivery.transport import Transport
from opentelemetry_guard.models import AgentStatus, DynamicRules
from opentelemetry_guard.queue.base import Batch
from opentelemetry_guard.rules.client import DEFAULT_INTERVAL, RulesClient
from opentelemetry_guard.rules.link import Link
from opentelemetry_guard.settings import late

START = 1_800_000_000.0
UNCHANGED = RulesAnswer(Outcome(Verdict.ACCEPTED, 304))
DOWN = RulesAnswer(Outcome(Verdict.RETRY, 503, "down"))
WATCHDOG = 60.0


def served(document: dict[str, Any] | bytes, etag: str | None = None) -> RulesAnswer:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return RulesAnswer(Outcome(Verdict.ACCEPTED, 200), body, etag)


class Scripted:
    """A backend that answers questions for rules with what `answer` is at the moment."""

    def __init__(self, answer: RulesAnswer = UNCHANGED) -> None:
        self.answer = answer
        self.etags: list[str | None] = []

    def fetch_rules(self, etag: str | None, timeout: float = float("inf")) -> RulesAnswer:
        self.etags.append(etag)
        return self.answer

    def send(self, batch: Batch, timeout: float = float("inf")) -> Outcome:
        raise AssertionError("the rules client sends no rows")

    def send_status(self, status: AgentStatus, timeout: float = float("inf")) -> Outcome:
        raise AssertionError("the rules client reports no status")

    def close(self) -> None:
        """Nothing is open."""


class Idle(Control):
    """A control without a thread: the test runs the tasks."""

    def wake(self) -> None:
        """Leave it to the test."""


@dataclass
class World:
    """A client whose time stands still until the test moves it."""

    directory: Path | None
    backend: Scripted = field(default_factory=Scripted)
    elapsed: float = 0.0
    destination: str = "here"
    linked: bool = True
    jitter: float = 1.0

    def __post_init__(self) -> None:
        self.route = Route("rules")
        self.client = self.restarted()

    def restarted(self) -> RulesClient:
        transport: Transport = self.backend
        self.client = RulesClient(
            lambda: Link(self.destination, transport, self.route) if self.linked else None,
            lambda: self.directory,
            control=Idle("idle"),
            now=lambda: START + self.elapsed,
            monotonic=lambda: self.elapsed,
            uniform=lambda low, high: low + (high - low) * self.jitter,
        )
        return self.client

    def serve(self, *documents: dict[str, Any]) -> None:
        for document in documents:
            self.backend.answer = served(document)
            self.client.refresh(1.0)
            self.client.run()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the client do what becomes due on the way."""
        end = self.elapsed + seconds
        while self.client.due_at <= end:
            self.elapsed = max(self.elapsed, self.client.due_at)
            self.client.run()
        self.elapsed = end


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "state")


class Told:
    """What a subscriber was told."""

    def __init__(self) -> None:
        self.changes: list[tuple[DynamicRules | None, DynamicRules]] = []

    def __call__(self, old: DynamicRules | None, new: DynamicRules) -> None:
        self.changes.append((old, new))

    @property
    def bans(self) -> list[list[str]]:
        return [new.ip_blacklist for _, new in self.changes]


BAN = {"rule_id": "r", "version": 3, "ip_blacklist": ["192.0.2.1"]}


def test_the_first_poll_is_at_once_and_the_next_ones_at_the_interval_less_jitter(world: World) -> None:
    world.client.subscribe(Told())
    world.client.run()
    assert len(world.backend.etags) == 1
    world.pass_time(DEFAULT_INTERVAL)
    assert len(world.backend.etags) == 2
    world.jitter = 0.0
    world.pass_time(DEFAULT_INTERVAL * 3)
    assert 4 <= len(world.backend.etags) <= 6


def test_the_shortest_interval_counts_and_is_a_second_at_least(world: World) -> None:
    world.client.subscribe(Told())
    world.client.run()
    leave = world.client.subscribe(Told(), 0.001)
    world.pass_time(10)
    assert len(world.backend.etags) == 11
    leave()
    world.pass_time(10)
    assert len(world.backend.etags) <= 12


def test_a_shorter_time_to_live_makes_the_next_poll_earlier(world: World) -> None:
    world.client.subscribe(Told())
    world.serve({**BAN, "ttl": 20})
    before = len(world.backend.etags)
    world.pass_time(20)
    assert len(world.backend.etags) == before + 1


@pytest.mark.parametrize(
    ("intervals", "served", "expected"),
    [
        ([None], {}, 30.0),
        ([None], {"ttl": 120}, 120.0),
        ([None], {"ttl": 5000}, 300.0),
        ([600.0], {}, 600.0),
        ([600.0, None], {}, 30.0),
        ([600.0], {"ttl": 120}, 120.0),
    ],
)
def test_the_pause_between_polls_is_the_shortest_that_somebody_asks_for(
    world: World, intervals: list[float | None], served: dict[str, int], expected: float
) -> None:
    for interval in intervals:
        world.client.subscribe(Told(), interval)
    world.serve({**BAN, **served})
    assert world.client.due_at == expected


def test_subscribers_are_told_of_what_is_known_and_of_each_change_in_order(world: World) -> None:
    first, second = Told(), Told()
    world.client.subscribe(first)
    world.serve(BAN, {**BAN, "version": 4, "ip_blacklist": []})
    world.client.subscribe(second)
    world.client.run()
    assert first.bans == [["192.0.2.1"], []]
    assert [old.version if old else None for old, _ in first.changes] == [None, 3]
    assert [(old, new.version) for old, new in second.changes] == [(None, 4)]


def test_the_same_rules_dated_anew_are_no_change(world: World) -> None:
    told = Told()
    world.client.subscribe(told)
    world.serve({**BAN, "timestamp": "2026-01-01T00:00:00Z"}, {**BAN, "timestamp": "2026-01-02T00:00:00Z"}, BAN)
    assert len(told.changes) == 1


def test_an_older_version_is_taken_over_too_since_the_backend_may_have_gone_back(world: World) -> None:
    world.serve({**BAN, "version": 9}, {**BAN, "version": 2, "ip_blacklist": []})
    current = world.client.current()
    assert current is not None
    assert current.version == 2


def test_what_is_known_is_named_in_the_next_question(world: World) -> None:
    world.backend.answer = served(BAN, '"one"')
    world.client.refresh(1.0)
    world.backend.answer = UNCHANGED
    world.client.refresh(1.0)
    world.client.refresh(1.0)
    assert world.backend.etags == [None, '"one"', '"one"']
    assert world.client.current() is not None


def test_the_rules_stay_while_the_backend_is_down_for_an_hour_and_beyond_their_ttl(world: World) -> None:
    told = Told()
    world.client.subscribe(told)
    world.serve({**BAN, "ttl": 60})
    world.backend.answer = DOWN
    world.pass_time(3600)
    current = world.client.current()
    assert current is not None
    assert current.ip_blacklist == ["192.0.2.1"]
    assert len(told.changes) == 1
    world.backend.answer = served({**BAN, "ip_blacklist": ["192.0.2.2"]})
    world.pass_time(30)
    assert told.bans == [["192.0.2.1"], ["192.0.2.2"]]


def test_a_restart_during_an_outage_begins_with_the_rules_of_before(world: World) -> None:
    world.backend.answer = served(BAN, '"one"')
    world.client.refresh(1.0)
    world.backend.answer = DOWN
    again, told = world.restarted(), Told()
    again.subscribe(told)
    current = again.current()
    assert current is not None
    assert current.ip_blacklist == ["192.0.2.1"]
    again.run()
    assert told.bans == [["192.0.2.1"]]
    assert world.backend.etags[-1] == '"one"'


def test_rules_of_before_are_in_force_before_the_backend_has_answered(world: World) -> None:
    world.serve(BAN)
    client, told = world.restarted(), Told()
    client.subscribe(told)
    known_when_asked: list[list[list[str]]] = []

    def answer_late(etag: str | None, timeout: float = float("inf")) -> RulesAnswer:
        known_when_asked.append(told.bans)
        return DOWN

    world.backend.fetch_rules = answer_late  # type: ignore[method-assign]
    client.run()
    assert known_when_asked == [[["192.0.2.1"]]]


def test_what_is_kept_is_private_and_of_one_destination(world: World) -> None:
    world.serve(BAN)
    assert world.directory is not None
    [file] = world.directory.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(world.directory.stat().st_mode) == 0o700
    world.destination = "elsewhere"
    world.backend.answer = DOWN
    told = Told()
    world.client.subscribe(told)
    world.client.refresh(1.0)
    assert world.client.current() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"etag": 1}', b'{"etag": null, "document": {"ttl": "x"}}'])
def test_a_kept_file_that_is_damaged_is_left_aside(world: World, content: bytes, caplog: Any) -> None:
    world.serve(BAN)
    assert world.directory is not None
    [file] = world.directory.iterdir()
    file.write_bytes(content)
    again = world.restarted()
    world.backend.answer = DOWN
    again.subscribe(Told())
    assert again.current() is None
    assert "dynamic rules of the last run can't be" in caplog.text


def test_a_kept_file_that_somebody_else_could_have_written_is_not_read(world: World, tmp_path: Path) -> None:
    world.serve(BAN)
    assert world.directory is not None
    [file] = world.directory.iterdir()
    planted = tmp_path / "planted.json"
    file.rename(planted)
    file.symlink_to(planted)
    again = world.restarted()
    again.subscribe(Told())
    assert again.current() is None


def test_without_a_directory_rules_work_until_the_restart(world: World) -> None:
    world.directory = None
    world.serve(BAN)
    assert world.client.current() is not None
    assert world.restarted().current() is None


@pytest.mark.parametrize(
    "document",
    [
        b"[1, 2]",
        b'{"rule_id": "r", "ttl": "soon"}',
        b'{"endpoint_rate_limits": {"/": 5}}',
        b'{"ip_blacklist": "192.0.2.9"}',
        b'{"expires_at": "never"}',
    ],
)
def test_a_bad_document_changes_nothing_is_reported_and_logged_once(
    world: World, document: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    world.client.subscribe(told)
    world.serve(BAN)
    world.backend.answer = served(document)
    for _ in range(3):
        world.client.refresh(1.0)
        world.client.run()
    assert told.bans == [["192.0.2.1"]]
    assert world.route.complaint
    assert len([text for text in caplog.messages if "can't be used" in text]) == 1
    world.serve({**BAN, "version": 4})
    assert world.route.complaint is None


@pytest.mark.parametrize("outcome", [Outcome(Verdict.REFUSED, 400, "no such agent"), Outcome(Verdict.TOO_LARGE, 413)])
def test_a_question_that_the_backend_refuses_is_reported_like_a_bad_document(
    world: World, outcome: Outcome, caplog: pytest.LogCaptureFixture
) -> None:
    world.client.subscribe(Told())
    world.serve(BAN)
    world.backend.answer = RulesAnswer(outcome)
    for _ in range(3):
        world.client.refresh(1.0)
    assert world.route.complaint == outcome.text
    assert len([text for text in caplog.messages if "can't be used" in text]) == 1
    world.serve(BAN)
    assert world.route.complaint is None


def test_expired_rules_are_no_longer_in_force_and_empty_ones_follow(world: World) -> None:
    told = Told()
    world.client.subscribe(told)
    ends = datetime.fromtimestamp(START + 100, timezone.utc).isoformat()
    world.serve({**BAN, "expires_at": ends})
    world.backend.answer = DOWN
    world.pass_time(99)
    assert world.client.current() is not None
    world.pass_time(2)
    assert world.client.current() is None
    assert told.bans == [["192.0.2.1"], []]
    world.serve({**BAN, "expires_at": ends})
    assert told.bans == [["192.0.2.1"], []]


def test_a_callback_that_raises_is_logged_and_the_others_are_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(old: DynamicRules | None, new: DynamicRules) -> None:
        raise ZeroDivisionError("password=hunter2")

    told = Told()
    world.client.subscribe(broken)
    world.client.subscribe(told)
    world.serve(BAN)
    assert told.bans == [["192.0.2.1"]]
    assert "a callback for dynamic rules failed: ZeroDivisionError('password=[REDACTED]')" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_callback_may_subscribe_ask_and_leave(world: World) -> None:
    told = Told()
    leave: list[Callable[[], None]] = []

    def curious(old: DynamicRules | None, new: DynamicRules) -> None:
        assert world.client.current() is new
        world.client.subscribe(told)
        leave.pop()()

    leave.append(world.client.subscribe(curious))
    world.serve(BAN, {**BAN, "ip_blacklist": []})
    assert told.bans[-1] == []


def test_a_refused_key_is_asked_about_more_and_more_seldom(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.backend.answer = RulesAnswer(Outcome(Verdict.MISCONFIGURED, 401, "unknown key"))
    world.client.subscribe(Told(), 1.0)
    world.pass_time(250)
    assert len(world.backend.etags) == 6  # after 5, 10, 20, 40 and 80 seconds more each
    world.pass_time(3000)
    assert len(world.backend.etags) <= 6 + 11  # and every five minutes from then on
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


def test_with_nobody_to_ask_it_waits_for_the_settings(world: World) -> None:
    world.linked = False
    world.client.subscribe(Told(), 1.0)
    world.pass_time(3600)
    assert world.backend.etags == []
    world.linked = True
    world.client.settings_changed()
    world.pass_time(1)
    assert world.backend.etags


# The process's own client, against a real server.


@pytest.fixture
def own_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without a client, and leave none behind."""
    monkeypatch.setattr(rules, "_client", None)
    yield
    client = rules._client
    if client is not None:
        for subscriber in list(client._subscribers):
            client._subscribers.remove(subscriber)
        client._control.remove(client)


@pytest.mark.usefixtures("own_client")
def test_a_ban_reaches_a_process_without_any_exporter_within_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    with guard_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        seen: list[list[str]] = []
        banned = threading.Event()

        def on_rules(old: DynamicRules | None, new: DynamicRules) -> None:
            seen.append(new.ip_blacklist)
            banned.set()

        leave = rules.subscribe(on_rules, interval=1)
        server.wait_until(lambda: len(server.questions) >= 1, "a first question")
        assert rules.current() is None
        server.serve_rules(BAN)
        assert banned.wait(WATCHDOG)
        assert seen == [["192.0.2.1"]]
        current = rules.current()
        assert current is not None
        assert current.version == 3
        server.wait_until(lambda: any(question.status == 304 for question in server.questions), "an unchanged answer")
        leave()


@pytest.mark.usefixtures("own_client")
def test_a_key_that_comes_late_begins_the_polling() -> None:
    with guard_server() as server:
        server.serve_rules(BAN)
        told = threading.Event()
        leave = rules.subscribe(lambda old, new: told.set())
        late.offer("SecurityConfig", endpoint=server.url, api_key=server.api_key, project_id="p")
        assert told.wait(WATCHDOG)
        assert server.questions[0].headers["x-project-id"] == "p"
        leave()


@pytest.mark.usefixtures("own_client")
def test_an_exporter_lends_its_settings_its_transport_and_its_statistics() -> None:
    with guard_server() as server:
        server.serve_rules(b"[]")
        leave = rules.subscribe(lambda old, new: None)
        exporter = GuardLogExporter(**server.settings)
        delivery = exporter.delivery
        assert delivery is not None
        eventually(lambda: delivery.stats().routes["rules"].last_error is not None)
        assert delivery.status().status == "degraded"
        assert "must be a JSON object" in delivery.status().errors[0]
        scripted = Scripted(served(BAN))
        delivery.use_transport(scripted)
        refreshed = rules.refresh(WATCHDOG)
        assert refreshed is not None
        assert refreshed.version == 3
        assert scripted.etags
        leave()
        exporter.shutdown()


@pytest.mark.usefixtures("own_client")
def test_a_question_that_hangs_keeps_nobody_from_subscribing_or_shutting_down(monkeypatch: pytest.MonkeyPatch) -> None:
    with guard_server() as server:
        server.control = Answer(delay=3600.0)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        leave = rules.subscribe(lambda old, new: None)
        server.wait_until(lambda: len(server.questions) == 1, "a question")
        finished = threading.Event()

        def go_on() -> None:
            rules.subscribe(lambda old, new: None)()
            leave()
            finished.set()

        threading.Thread(target=go_on, daemon=True).start()
        assert finished.wait(WATCHDOG)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("own_client")
def test_a_forked_child_of_a_subscriber_polls_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with guard_server() as server:
        server.serve_rules(BAN)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        told = threading.Event()
        versions: list[int] = []

        def on_rules(old: DynamicRules | None, new: DynamicRules) -> None:
            versions.append(new.version)
            told.set()

        leave = rules.subscribe(on_rules, interval=1)
        assert told.wait(WATCHDOG)
        pid = os.fork()
        if pid == 0:
            try:
                eventually(lambda: versions[-1] == 4)
                os._exit(0)
            finally:
                os._exit(1)
        leave()
        server.serve_rules({**BAN, "version": 4})
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
