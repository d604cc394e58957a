"""The stream of rules on the client's side: what each answer and each end of it leads to."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.decision.signing import Proof
from opentelemetry_guard.delivery.deadline import Connections
from opentelemetry_guard.delivery.outcome import Outcome, Verdict
from opentelemetry_guard.delivery.route import Route
from opentelemetry_guard.delivery.streaming import EventStream, ServerEvent
from opentelemetry_guard.rules import stream as streams
from opentelemetry_guard.rules.link import Link
from opentelemetry_guard.rules.stream import RulesStream

STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}
HERE = b": here\n\n"


def event(number: int) -> bytes:
    return b'event: rules\nid: "v%d-a"\nsignature: v1=%d\ndata: {"version": %d}\n\n' % (number, number, number)


def answer(
    status: int = 200, pieces: list[bytes] | None = None, *, chunked: bool = True, **headers: str
) -> EventStream:
    """An answer as requests has it, whose pieces come at once; after the last one comes a silence."""

    def come(amount: int, decode_content: bool) -> Iterator[bytes]:
        yield from pieces or []
        raise TimeoutError("timed out")

    sent = {**STREAM, **({"Transfer-Encoding": "chunked"} if chunked else {}), **headers}
    response: Any = SimpleNamespace(status=status, headers=sent, stream=come, close=lambda: None, connection=None)
    return EventStream(Connections(), response, 10_000)


@dataclass
class Backend:
    """What a connection brings, one after the other."""

    answers: list[EventStream | Outcome] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)

    def stream_rules(self, etag: str | None, nonce: str) -> EventStream | Outcome:
        self.asked.append(etag)
        return self.answers.pop(0)

    def proof(self, nonce: str | None, number: int, signature: str | None) -> Proof | None:
        return None if signature is None else Proof(f"{number}", signature)


@dataclass
class Ear:
    """A listener that notes everything."""

    link: Link | None = None
    usable: bool = True
    heard: list[tuple[bytes, str, Proof | None]] = field(default_factory=list)
    losses: int = 0

    def wanted(self) -> Link | None:
        return self.link

    def known_tag(self, link: Link) -> str | None:
        return self.heard[-1][1] if self.heard else None

    def hear(self, link: Link, document: bytes, tag: str, proof: Proof | None) -> bool:
        self.heard.append((document, tag, proof))
        return self.usable

    def lost(self) -> None:
        self.losses += 1


class World:
    """A stream in a time that stands still, with the longest pauses."""

    def __init__(self) -> None:
        self.backend, self.ear, self.route = Backend(), Ear(), Route("rules")
        self.ear.link = Link("here", None, self.route, streaming=self.backend)  # type: ignore[arg-type]
        self.stream = RulesStream(self.ear, monotonic=lambda: 0.0, uniform=lambda low, high: high)

    def after(self, *answers: EventStream | Outcome) -> list[float]:
        """Return the pause after each of these answers."""
        self.backend.answers += answers
        pauses = []
        for _ in answers:
            self.stream.run()
            pauses.append(self.stream.due_at)
        return pauses


@pytest.fixture
def world() -> World:
    return World()


def test_what_comes_is_taken_over_with_its_number_and_asked_for_by_its_tag(world: World) -> None:
    world.after(answer(pieces=[event(3), HERE, event(4)]), answer(pieces=[event(5)]))
    assert world.ear.heard == [
        (b'{"version": 3}', '"v3-a"', Proof("1", "v1=3")),
        (b'{"version": 4}', '"v4-a"', Proof("2", "v1=4")),
        (b'{"version": 5}', '"v5-a"', Proof("1", "v1=5")),
    ]
    assert world.backend.asked == [None, '"v4-a"']


@pytest.mark.parametrize(
    "refusal",
    [
        answer(404),
        answer(405),
        answer(501),
        answer(406),
        answer(302),
        answer(200, **{"Content-Type": "text/html"}),
        answer(200, **{"Content-Type": "application/json"}),
        answer(200, [event(1)], chunked=False),
    ],
)
def test_a_backend_without_a_stream_is_asked_about_once_an_hour(world: World, refusal: EventStream) -> None:
    assert world.after(refusal) == [streams.NOT_OFFERED_SECONDS * 1.2]
    assert (world.ear.heard, world.ear.losses) == ([], 0)


def test_who_holds_the_answer_back_is_found_out_and_asked_about_once_an_hour(world: World) -> None:
    first, second = world.after(answer(), answer())
    assert first == 2 * streams.FIRST_PAUSE
    assert second == streams.NOT_OFFERED_SECONDS * 1.2


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_waits_for_the_polls_to_say_why(world: World, status: int) -> None:
    assert world.after(answer(status)) == [streams.REFUSED_SECONDS * 1.2]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_backend_is_left_alone_for_as_long_as_it_says_and_no_longer_than_it_may(
    world: World, status: int
) -> None:
    asked, endless = world.after(answer(status, **{"Retry-After": "60"}), answer(status, **{"Retry-After": "999999"}))
    assert asked >= 60
    assert streams.LONGEST_WISH <= endless <= 2 * streams.LONGEST_WISH + streams.LONGEST_PAUSE


def test_failures_in_a_row_make_longer_and_longer_pauses_within_a_bound(world: World) -> None:
    down = Outcome(Verdict.RETRY, reason="refused")
    pauses = world.after(*[down] * 10)
    assert pauses[:4] == [4.0, 8.0, 16.0, 32.0]
    assert set(pauses[5:]) == {streams.LONGEST_PAUSE}
    assert world.after(answer(pieces=[HERE])) == [streams.FIRST_PAUSE]
    assert world.after(down) == [4.0]


def test_while_the_polls_are_held_no_connection_is_tried(world: World) -> None:
    world.route.settle(Outcome(Verdict.MISCONFIGURED, 401, "no"), streams.time.monotonic())
    world.stream.run()
    assert world.backend.asked == []
    assert 0 < world.stream.due_at < 10


def test_a_stream_lives_from_the_first_sign_to_its_end_which_is_told(world: World) -> None:
    lives: list[bool] = []
    hear = world.ear.hear

    def look(link: Link, document: bytes, tag: str, proof: Proof | None) -> bool:
        lives.append(world.stream.is_live(link))
        return hear(link, document, tag, proof)

    world.ear.hear = look  # type: ignore[method-assign]
    world.after(answer(pieces=[HERE, event(1)]))
    assert lives == [True]
    assert world.ear.link is not None
    assert not world.stream.is_live(world.ear.link)
    assert world.ear.losses == 1


def test_rules_that_cannot_be_used_end_the_connection_and_are_asked_for_more_and_more_seldom(world: World) -> None:
    world.ear.usable = False
    assert world.after(*[answer(pieces=[HERE, event(1), event(2)]) for _ in range(2)]) == [4.0, 4.0]
    assert world.after(*[answer(pieces=[event(1)]) for _ in range(3)]) == [8.0, 16.0, 32.0]
    assert len(world.ear.heard) == 5


def test_nobody_who_wants_rules_and_a_transport_without_streams_wait_for_a_change(world: World) -> None:
    link, world.ear.link = world.ear.link, None
    world.stream.run()
    assert world.stream.due_at == float("inf")
    assert link is not None
    world.ear.link = Link("here", link.transport, world.route)
    world.stream.hurry()
    world.stream.run()
    assert world.stream.due_at == float("inf")


def test_other_settings_end_the_connection_and_no_pause_outlasts_them(world: World) -> None:
    hear = world.ear.hear

    def change(link: Link, document: bytes, tag: str, proof: Proof | None) -> bool:
        world.ear.link = Link("elsewhere", None, world.route, streaming=world.backend)  # type: ignore[arg-type]
        world.stream.hurry()
        return hear(link, document, tag, proof)

    world.ear.hear = change  # type: ignore[method-assign]
    assert world.after(answer(pieces=[event(1), event(2)])) == [0.0]
    assert len(world.ear.heard) == 1


CONTENT = b"".join(
    [HERE, event(1), b"\n", event(2).replace(b"\n", b"\r\n"), b"unknown\n: x\n", b"data: 3\n\ndata: cut"]
)


@given(st.lists(st.integers(0, len(CONTENT)), max_size=30))
def test_events_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(CONTENT)]
    pieces = [CONTENT[a:b] for a, b in itertools.pairwise(places) if a < b]
    found: list[ServerEvent | None] = []
    with pytest.raises(TimeoutError):
        found.extend(answer(pieces=pieces).events(1, 1))
    assert found == [
        None,
        ServerEvent('"v1-a"', b'{"version": 1}', "v1=1"),
        ServerEvent('"v2-a"', b'{"version": 2}', "v1=2"),
        None,
        ServerEvent("", b"3", None),
    ]


def test_a_line_without_an_end_is_given_up() -> None:
    with pytest.raises(ValueError, match="more than 10000 bytes"):
        list(answer(pieces=[b"data: "] + [b"x" * 1000] * 11).events(1, 1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_closes_its_copy_of_the_connection_and_leaves_the_parents_alone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = answer()
        response: Any = stream._response
        response.connection = SimpleNamespace(sock=ours)
        stream.leave_to_parent()
        assert ours.fileno() >= 0
        pid = os.fork()
        if pid == 0:
            stream.leave_to_parent()
            os._exit(0 if ours.fileno() == -1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        ours.sendall(b"alive")
        assert theirs.recv(5) == b"alive"
