"""Signed and encrypted delivery to a real backend that accepts nothing else."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from support.backend import RunningBackend, running_backend

from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.delivery.encoder import Encoder
from opentelemetry_guard.delivery.envelope import Envelope
from opentelemetry_guard.events.codec import Row, complete, to_row
from opentelemetry_guard.settings.delivery import GuardConfig

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
PLAIN = "a-reason-in-plain-words"


def delivery(backend: RunningBackend, **settings: object) -> Delivery:
    return Delivery(GuardConfig.resolve({**backend.environment}, **settings))


def rows(count: int) -> list[Row]:
    return [complete(to_row({"event_type": "ip_blocked", "reason": PLAIN})[0]) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 50], ids=["as it is", "compressed"])
def test_a_signed_body_is_accepted(count: int) -> None:
    with running_backend(signing_secret="the secret of both") as backend:
        made = delivery(backend, signing_secret="the secret of both")
        made.submit("events", rows(count))
        assert made.flush(20)
        made.close(5)
        assert len(backend.events()) == count


def test_encrypted_rows_arrive_and_are_nowhere_in_plain_text(tmp_path: Path) -> None:
    with running_backend(encryption_key=KEY) as backend:
        backend.stop()
        url = f"sqlite://{tmp_path}/queue/guard.db"
        first = delivery(backend, encryption_key=KEY.rstrip("="), queue_url=url)
        first.submit("events", rows(3))
        first.close(0.1)
        stored = b"".join(file.read_bytes() for file in (tmp_path / "queue").iterdir())
        assert b"encrypted_payload" in stored
        assert PLAIN.encode() not in stored
        backend.start()
        second = delivery(backend, encryption_key=KEY, queue_url=url)
        second.start()
        assert {event["reason"] for event in backend.wait_for_events(3)} == {PLAIN}
        second.close(5)


def test_rows_that_waited_in_plain_text_are_encrypted_before_they_are_sent(tmp_path: Path) -> None:
    with running_backend(encryption_key=KEY) as backend:
        backend.stop()
        url = f"sqlite://{tmp_path}/queue/guard.db"
        before = delivery(backend, queue_url=url)
        before.submit("events", rows(2))
        before.close(0.1)
        backend.start()
        after = delivery(backend, encryption_key=KEY, queue_url=url)
        after.start()
        assert len(backend.wait_for_events(2)) == 2
        after.close(5)
        assert after.stats().ledger["events"].balanced


def test_another_key_opens_nothing() -> None:
    batch = Encoder("p", "gzip", Envelope(KEY)).encode("events", rows(1))[0]
    assert batch.encrypted
    other = base64.urlsafe_b64encode(bytes(32)).decode()
    with pytest.raises(ValueError, match="another key"):
        Encoder("p", "gzip", Envelope(other)).rows(batch)
    assert Encoder("p", "gzip", Envelope(KEY)).rows(batch)[0]["reason"] == PLAIN
