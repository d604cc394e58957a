"""Batches that arrive together are stored in one transaction, each as if it were alone."""

from __future__ import annotations

import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from support.redis import eventually

from opentelemetry_guard.backend.storage.arriving import Batch, Offered, add_batches, read_events, read_metrics
from opentelemetry_guard.backend.storage.store import Store, Stored
from opentelemetry_guard.models import SecurityEvent, SecurityMetric

METRIC = SecurityMetric(metric_type="threat_level", value=1.0)
SENDERS = 6


def event(key: str, event_type: str = "e") -> SecurityEvent:
    return SecurityEvent(idempotency_key=str(uuid5(NAMESPACE_URL, key)), event_type=event_type)


class Crowd:
    """Senders that arrive while somebody stores, and the transactions that storing what they send takes."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.transactions = 0
        begin = store.database.kind.begin

        def counted(connection: Connection) -> None:
            self.transactions += 1
            begin(connection)

        monkeypatch.setattr(store.database.kind, "begin", counted)

    def send(self, batches: list[list[SecurityEvent]]) -> list[Future[Stored]]:
        """Have each batch sent by a thread of its own; return when all of them have been answered."""
        together = self.store._together
        with ThreadPoolExecutor(len(batches) + 1) as threads:
            # Who comes first can't begin as long as somebody else writes.
            with self.store.database.writing():
                threads.submit(self.store.add, "first", "b", [event("first")], [], 1.0)
                eventually(lambda: together._storing and not together._waiting)
                answers = [
                    threads.submit(self.store.add, "p", f"b{number}", batch, [], 1.0)
                    for number, batch in enumerate(batches)
                ]
                eventually(lambda: len(together._waiting) == len(batches))
                self.transactions = -1
            return answers

    def stored_batches(self) -> set[str]:
        """Return the batches of the project of which rows are stored."""
        return {row.batch_id for row in self.store.events(100) if row.project_id == "p"}


def test_who_waits_for_the_same_turn_is_stored_in_one_transaction(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(store, monkeypatch)
    answers = crowd.send([[event(f"{number}"), event("the same")] for number in range(SENDERS)])
    assert sum(answer.result().accepted for answer in answers) == SENDERS + 1
    assert sum(answer.result().duplicates for answer in answers) == SENDERS - 1
    assert crowd.transactions == 1
    assert crowd.stored_batches() == {f"b{number}" for number in range(SENDERS)}


def test_a_batch_that_cannot_be_stored_is_refused_and_the_others_are_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.database.writing() as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(
                text(
                    "CREATE TRIGGER refused BEFORE INSERT ON events WHEN NEW.event_type = 'bad' "
                    "BEGIN SELECT RAISE(ABORT, 'refused'); END"
                )
            )
        else:
            connection.execute(text("ALTER TABLE events ADD CONSTRAINT refused CHECK (event_type <> 'bad')"))
    crowd = Crowd(store, monkeypatch)
    answers = crowd.send([[event(f"{number}", "bad" if number == 2 else "e")] for number in range(SENDERS)])
    failed = [number for number, answer in enumerate(answers) if isinstance(answer.exception(), DBAPIError)]
    assert failed == [2]
    assert isinstance(answers[2].exception(), IntegrityError)
    assert crowd.stored_batches() == {f"b{number}" for number in range(SENDERS) if number != 2}


def test_what_is_no_failure_of_the_database_is_told_to_everybody_who_waits(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(store, monkeypatch)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("opentelemetry_guard.backend.storage.together.add_batches", broken)
    answers = crowd.send([[event(f"{number}")] for number in range(SENDERS)])
    assert all(isinstance(answer.exception(), ZeroDivisionError) for answer in answers)
    monkeypatch.undo()
    assert store.add("p", "b", [event("later")], [], 1.0) == Stored(1, 0)


_batches = st.lists(
    st.tuples(
        st.sampled_from("pq"),
        st.sampled_from("ab"),
        st.lists(st.sampled_from("1234"), max_size=5),
        st.integers(0, 2),
        st.sampled_from([1.0, 90_000.0]),
    ),
    max_size=6,
)


@settings(max_examples=30, deadline=None)
@given(_batches)
def test_together_they_become_what_they_become_one_by_one(
    batches: list[tuple[str, str, list[str], int, float]],
) -> None:
    offered = [
        Offered(
            Batch(project, batch_id, moment),
            read_events([event(key) for key in keys], moment),
            read_metrics([METRIC] * amount, moment),
        )
        for project, batch_id, keys, amount, moment in batches
    ]
    found = []
    for groups in ([offered], [[one] for one in offered]):
        with tempfile.TemporaryDirectory() as directory, closing(Store(Path(directory, "b.db"))) as store:
            accepted: list[int] = []
            for group in groups:
                with store.database.writing() as connection:
                    accepted += add_batches(store.database, connection, group)
            kept = {
                (
                    row.project_id,
                    row.batch_id,
                    row.received_at,
                    SecurityEvent.model_validate_json(row.row).idempotency_key,
                )
                for row in store.events(100)
            }
            found.append((accepted, kept, store.summary()))
    assert found[0] == found[1]
