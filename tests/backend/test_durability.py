"""An acknowledged batch survives whatever ends the process."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL
from support.backend import running_backend
from support.ingesting import ROWS, Senders, keys
from support.sending import batch, event, post

pytestmark = pytest.mark.slow


def test_a_kill_under_load_loses_nothing_acknowledged_and_halves_no_batch(database: Path | URL) -> None:
    with running_backend(db=database) as backend:
        senders = Senders(backend)
        assert senders.enough.wait(60)
        backend.kill()
        senders.join()
        backend.start()

        kept = backend.stored("events")
        assert keys(senders.acknowledged) <= {entry["event"]["idempotency_key"] for entry in kept}
        assert set(Counter(entry["batch_id"] for entry in kept).values()) == {ROWS}

        for body in senders.acknowledged[-5:] + senders.unanswered:
            assert post(backend, "/api/v1/events", body).status_code == 200
        everything = [row["idempotency_key"] for row in backend.events()]
        assert len(everything) == len(set(everything))
        assert set(everything) == keys(senders.acknowledged + senders.unanswered)


def test_of_two_backends_on_one_database_one_is_killed_and_everything_acknowledged_is_stored_once(
    database: Path | URL,
) -> None:
    with running_backend(db=database) as stays, running_backend(db=database) as killed:
        of_both = [Senders(stays), Senders(killed)]
        assert of_both[1].enough.wait(120)
        killed.kill()
        of_both[1].join()
        for body in of_both[1].acknowledged[-5:] + of_both[1].unanswered:
            assert post(stays, "/api/v1/events", body).status_code == 200
        stays.kill()
        of_both[0].join()
        stays.start()
        for body in of_both[0].unanswered:
            assert post(stays, "/api/v1/events", body).status_code == 200
        everything = [row["idempotency_key"] for row in stays.events()]
        assert len(everything) == len(set(everything))
        sent = [body for senders in of_both for body in senders.acknowledged + senders.unanswered]
        assert set(everything) == keys(sent)


def test_a_restart_keeps_address_and_data(tmp_path: Path) -> None:
    with running_backend(db=tmp_path / "backend.db") as backend:
        url, sent = backend.url, event()
        post(backend, "/api/v1/events", batch(events=[sent]))
        backend.restart()
        assert backend.url == url
        assert [row["idempotency_key"] for row in backend.events()] == [sent["idempotency_key"]]


def test_a_store_that_fails_answers_503_so_that_senders_keep_their_rows(tmp_path: Path) -> None:
    with running_backend(db=tmp_path / "backend.db") as backend:
        with closing(sqlite3.connect(backend.db)) as other, other:
            other.execute("DROP TABLE events")
        answer = post(backend, "/api/v1/events", batch(events=[event()]))
        assert (answer.status_code, answer.json()["success"]) == (503, False)
        assert answer.headers["Retry-After"] == "1"
        assert str(backend.db) in backend.stderr()
        assert str(backend.db) not in answer.text
