"""Rules are believed as far as their signature goes: forged, older and unsigned documents change nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from opentelemetry_guard.decision.signing import Proof, context_of, digest_of, is_genuine, is_nonce, new_nonce, sign
from opentelemetry_guard.delivery.control import Control
from opentelemetry_guard.delivery.outcome import Outcome, RulesAnswer, Verdict
from opentelemetry_guard.delivery.route import Route
from opentelemetry_guard.models import DynamicRules
from opentelemetry_guard.rules import refusals
from opentelemetry_guard.rules.client import RulesClient
from opentelemetry_guard.rules.link import Link, Trust

SECRET, OTHER = "the secret", "another one"
OK = Outcome(Verdict.ACCEPTED, 200)


def document(version: int) -> bytes:
    # With spaces: what is signed is the text, and not what a reader makes of it.
    return json.dumps({"version": version, "ip_blacklist": [f"192.0.2.{version}"]}).encode()


def proof(body: bytes, secret: str = SECRET, context: str = "key:nonce:1") -> Proof:
    return Proof(context, sign(secret.encode(), context, digest_of(body)))


class Idle(Control):
    def wake(self) -> None:
        """Leave it to the test."""


@dataclass
class World:
    directory: Path
    trust: Trust = field(default_factory=lambda: Trust(SECRET))
    answer: RulesAnswer = field(default_factory=lambda: RulesAnswer(Outcome(Verdict.RETRY, 503)))
    asked: list[str | None] = field(default_factory=list)
    told: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.route = Route("rules")
        self.client = self.restarted()

    def fetch_rules(self, etag: str | None, timeout: float = 0.0) -> RulesAnswer:
        self.asked.append(etag)
        return self.answer

    @property
    def link(self) -> Link:
        transport: Any = self
        return Link("here", transport, self.route, self.trust)

    def restarted(self) -> RulesClient:
        self.client = RulesClient(lambda: self.link, lambda: self.directory, control=Idle("idle"))
        self.client.subscribe(lambda old, new: self.told.append(new.version))
        return self.client

    def poll(self, body: bytes, proof: Proof | None) -> int | None:
        """Have the backend answer so; return the version in force then."""
        self.answer = RulesAnswer(OK, body, f'"{len(self.asked)}"', proof)
        return _version(self.client.refresh(1.0))

    def hear(self, body: bytes, proof: Proof | None) -> int | None:
        """Have the stream bring that; return the version in force then."""
        self.client.hear(self.link, body, '"heard"', proof)
        return _version(self.client.current())


def _version(rules: DynamicRules | None) -> int | None:
    return None if rules is None else rules.version


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "state")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], dict[str, float]]]:
    """What the metric says, by why."""
    reader = InMemoryMetricReader()
    monkeypatch.setattr(refusals, "get_meter", MeterProvider([reader]).get_meter)
    refusals._counter.cache_clear()

    def read() -> dict[str, float]:
        data = reader.get_metrics_data()
        assert data is not None
        [metric] = data.resource_metrics[0].scope_metrics[0].metrics
        assert (metric.name, metric.unit) == ("guard.rules.refused", "{document}")
        points = {}
        for point in metric.data.data_points:
            assert isinstance(point, NumberDataPoint)
            assert point.attributes is not None
            assert set(point.attributes) == {"guard.delivery.destination", "guard.rules.refusal.reason"}
            points[str(point.attributes["guard.rules.refusal.reason"])] = point.value
        return points

    yield read
    refusals._counter.cache_clear()


@pytest.mark.parametrize("way", ["poll", "hear"])
def test_each_document_that_is_refused_is_counted_by_why(
    world: World, way: str, counted: Callable[[], dict[str, float]]
) -> None:
    come = getattr(world, way)
    first, second = (proof(document(n), context=f"key:nonce{n}:0") for n in (1, 2))
    assert (come(document(1), first), come(document(2), second)) == (1, 2)
    assert come(document(1), Proof("key:nonce3:0", first.signature)) == 2
    assert come(document(1), Proof("key:nonce4:0", first.signature)) == 2
    assert come(document(3), proof(document(3), OTHER)) == 2
    assert come(document(3), None) == 2
    wrong = b'{"version": []}'
    assert come(wrong, proof(wrong)) == 2
    assert counted() == {"older": 2, "forged": 1, "unsigned": 1, "malformed": 1}
    assert world.client.refusals.total == 5
    assert world.route.complaint is not None
    assert "5 refused so far" in world.route.complaint


def test_an_answer_that_is_none_of_a_backend_is_counted_as_malformed(
    world: World, counted: Callable[[], dict[str, float]]
) -> None:
    world.answer = RulesAnswer(Outcome(Verdict.RETRY, 200, "the answer is not the backend's JSON: '<html>'"))
    assert world.client.refresh(1.0) is None
    world.answer = RulesAnswer(Outcome(Verdict.RETRY, 503, "down"))
    assert world.client.refresh(1.0) is None
    assert counted() == {"malformed": 1}


@pytest.mark.parametrize("way", ["poll", "hear"])
def test_a_forged_document_changes_nothing_is_counted_and_told_once(
    world: World, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    come = getattr(world, way)
    assert come(document(1), proof(document(1))) == 1
    for forged in (proof(document(2), OTHER), proof(document(1)), Proof("key:nonce:2", "v1=é"), Proof("", "")):
        assert come(document(2), forged) == 1
    world.client.run()
    assert world.told == [1]
    assert world.client.refusals.total == 4
    assert world.route.complaint is not None
    assert "forged" in world.route.complaint
    assert "4 refused so far" in world.route.complaint
    assert len([text for text in caplog.messages if "can't be used" in text]) == 1
    assert come(document(3), proof(document(3))) == 3
    assert world.route.complaint is None


def test_an_unsigned_document_is_taken_until_the_backend_has_signed_one(world: World) -> None:
    """The hosted platform signs none, and its users have signing secrets too."""
    assert world.poll(document(1), None) == 1
    assert world.poll(document(2), proof(document(2))) == 2
    assert world.poll(document(3), None) == 2
    assert world.hear(document(3), None) == 2
    world.restarted()
    assert world.poll(document(3), None) == 2
    assert world.client.refusals.total == 1


def test_a_setting_refuses_unsigned_ones_from_the_first(world: World) -> None:
    world.trust = Trust(SECRET, only_signed=True)
    assert world.poll(document(1), None) is None
    assert world.hear(document(1), None) is None
    assert world.poll(document(1), proof(document(1))) == 1


def test_without_a_secret_nothing_is_asked_of_a_document(world: World) -> None:
    world.trust = Trust()
    assert world.poll(document(1), proof(document(2), OTHER)) == 1
    assert world.hear(document(2), None) == 2


def test_kept_rules_are_checked_like_those_that_come(world: World) -> None:
    world.poll(document(1), proof(document(1)))
    [file] = world.directory.iterdir()
    assert _version(world.restarted().current()) == 1
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "document": document(2).decode()}))
    assert _version(world.restarted().current()) is None
    assert world.asked[-1:] == [None]
    file.write_text(json.dumps({**kept, "proof": None}))
    world.trust = Trust(SECRET, only_signed=True)
    assert _version(world.restarted().current()) is None


@pytest.mark.parametrize("damage", [{"proof": []}, {"proof": {"context": "c"}}, {"document": None}, {"proof": "x"}])
def test_a_damaged_proof_is_none(world: World, damage: dict[str, Any]) -> None:
    world.poll(document(1), proof(document(1)))
    [file] = world.directory.iterdir()
    file.write_text(json.dumps({**json.loads(file.read_text()), **damage}))
    assert _version(world.restarted().current()) is None


def test_an_answer_that_is_older_than_what_the_stream_has_brought_is_passed_over(world: World) -> None:
    world.answer = RulesAnswer(OK, document(1), '"old"', proof(document(1)))
    fetch = world.fetch_rules

    def late(etag: str | None, timeout: float = 0.0) -> RulesAnswer:
        answer = fetch(etag)
        world.hear(document(2), proof(document(2)))
        return answer

    world.fetch_rules = late  # type: ignore[method-assign]
    assert _version(world.client.refresh(1.0)) == 2
    assert world.told == [2]


def test_what_is_told_for_a_former_destination_changes_nothing(world: World) -> None:
    world.poll(document(1), None)
    transport: Any = world
    former = Link("there", transport, world.route, world.trust)
    assert world.client.hear(former, document(2), '"2"', None)
    assert _version(world.client.current()) == 1


@given(st.binary(max_size=200), st.binary(max_size=200), st.text(max_size=30), st.integers(0, 5), st.integers(0, 5))
def test_a_signature_fits_one_document_for_one_question_at_one_place(
    body: bytes, other: bytes, key: str, number: int, place: int
) -> None:
    nonce = new_nonce()
    assert is_nonce(nonce)
    signature = proof(body, context=context_of(key, nonce, number)).signature
    for context in (context_of(key, nonce, place), context_of(key + "x", nonce, number), context_of(key, "n", number)):
        same = context == context_of(key, nonce, number)
        assert is_genuine(SECRET, Proof(context, signature), body) is same
        assert is_genuine(SECRET, Proof(context, signature), other) is (same and body == other)
        assert not is_genuine(OTHER, Proof(context, signature), body)
