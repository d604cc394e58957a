"""What a queue takes, hands out and ends."""

from __future__ import annotations

import time

from ..base import (
    KINDS,
    Batch,
    DeadLetter,
    DeliveryQueue,
)
from .steps import Steps, make_batch


class HandingOut(Steps):
    """Writing ahead, leases, acknowledgements and deferrals."""

    # Writing ahead.

    def test_it_has_the_protocol(self) -> None:
        """Every method is there."""
        assert isinstance(self.filled(), DeliveryQueue)

    def test_it_begins_empty(self) -> None:
        """There is nothing to lease and nothing in the ledger."""
        queue = self.filled()
        stats = self.balanced_stats(queue)
        assert (stats.depth, stats.bytes, stats.oldest) == (0, 0, None)
        assert set(stats.ledger) == set(KINDS)
        assert self.taken(queue) == []

    def test_it_exists_from_the_first_row_on(self) -> None:
        """`exists` is True once something was stored."""
        assert self.filled(make_batch("a")).exists()

    def test_a_batch_comes_back_as_it_was(self) -> None:
        """Body, encoding and every other field survive the store, byte by byte."""
        batch = Batch("id-1", "metrics", 7, bytes(range(256)), "gzip", True, 1_700_000_000.25)
        (lease,) = self.filled(batch).lease("metrics", time.time())
        assert lease.batch == batch
        assert (lease.attempts, lease.refusals) == (0, 0)

    def test_a_batch_id_is_stored_once(self) -> None:
        """A second append of the same batch changes nothing, also while it is in flight."""
        queue = self.filled(make_batch("a"), make_batch("a"))
        assert self.balanced_stats(queue).ledger["events"].accepted == 1
        assert self.taken(queue) == ["a"]
        queue.append(make_batch("a"))
        assert self.taken(queue) == []

    def test_accounted_rows_are_accepted_and_dropped(self) -> None:
        """Rows that never became a batch are in the ledger with their reason."""
        queue = self.filled()
        queue.account("metrics", 3, "invalid")
        ledger = self.balanced_stats(queue).ledger["metrics"]
        assert (ledger.accepted, ledger.dropped) == (3, {"invalid": 3})

    def test_statistics_describe_what_is_queued_or_in_flight(self) -> None:
        """Depth, bytes and the oldest creation time cover both states."""
        queue = self.filled(
            make_batch("a", size=10, created_at=5.0), make_batch("b", "metrics", size=20, created_at=6.0)
        )
        self.taken(queue)
        stats = self.balanced_stats(queue)
        assert (stats.depth, stats.bytes, stats.oldest) == (2, 30, 5.0)
        assert (stats.ledger["events"].in_flight, stats.ledger["metrics"].queued) == (1, 1)

    # Handing out.

    def test_the_newest_batch_comes_first(self) -> None:
        """Fresh batches are not kept waiting by a backlog."""
        queue = self.filled(*(make_batch(str(n), created_at=float(n)) for n in range(3)))
        assert self.drained(queue) == ["2", "1", "0"]

    def test_the_oldest_batch_comes_first_on_request(self) -> None:
        """The backlog has its turns too, within the same bounds; what is deferred is passed over."""
        queue = self.filled(*(make_batch(str(n), created_at=float(n)) for n in range(6)))
        assert self.taken(queue, oldest=True) == ["0"]
        queue.defer("0", time.time() + 1000.0)
        assert self.taken(queue, max_batches=2, oldest=True) == ["1", "2"]
        assert self.taken(queue) == ["5"]
        assert self.taken(queue, max_batches=9, oldest=True) == ["3", "4"]
        assert self.taken(queue, oldest=True) == []

    def test_the_oldest_attempted_batch_comes_alone(self) -> None:
        """In either order a batch that was attempted takes no others along."""
        queue = self.filled(*(make_batch(str(n), created_at=float(n)) for n in range(2)))
        assert self.taken(queue, oldest=True) == ["0"]
        queue.defer("0", 0.0)
        assert self.taken(queue, max_batches=5, oldest=True) == ["0"]
        queue.defer("0", 0.0)
        assert self.taken(queue, max_batches=5) == ["1"]

    def test_kinds_are_leased_apart(self) -> None:
        """A lease of one kind never returns the other."""
        queue = self.filled(make_batch("e"), make_batch("m", "metrics"))
        assert self.drained(queue, "metrics") == ["m"]
        assert self.drained(queue) == ["e"]

    def test_what_is_in_flight_is_not_handed_out_again(self) -> None:
        """Its owner lives, so it stays where it is."""
        queue = self.filled(make_batch("a"))
        assert self.taken(queue) == ["a"]
        assert self.taken(queue, after=1.0) == []

    def test_fresh_batches_come_together_up_to_each_bound(self) -> None:
        """The number of batches, bytes and rows bound a lease, and the first batch always fits."""
        batches = [make_batch(str(n), rows=2, size=10, created_at=float(n)) for n in range(4)]
        assert self.taken(self.filled(*batches), max_batches=3) == ["3", "2", "1"]
        assert self.taken(self.filled(*batches), max_batches=9, max_bytes=25) == ["3", "2"]
        assert self.taken(self.filled(*batches), max_batches=9, max_rows=5) == ["3", "2"]
        assert self.taken(self.filled(*batches), max_batches=9, max_bytes=1, max_rows=1) == ["3"]

    def test_an_attempted_batch_comes_alone(self) -> None:
        """It may be the one that the backend refuses, and must not take others along."""
        queue = self.filled(make_batch("old", created_at=9.0))
        self.taken(queue)
        queue.defer("old", 0.0)
        queue.append(make_batch("new", created_at=1.0))
        (lease,) = queue.lease("events", time.time(), max_batches=5)
        assert (lease.batch.batch_id, lease.attempts) == ("old", 1)
        assert self.taken(queue, max_batches=5) == ["new"]

    def test_fresh_batches_do_not_take_an_attempted_one_along(self) -> None:
        """A lease of several ends where an attempted batch would come next."""
        queue = self.filled(make_batch("old", created_at=1.0))
        self.taken(queue)
        queue.defer("old", 0.0)
        queue.append(make_batch("new", created_at=2.0))
        assert self.taken(queue, max_batches=5) == ["new"]
        assert self.taken(queue, max_batches=5) == ["old"]

    # Ends.

    def test_an_acknowledged_batch_is_delivered_and_gone(self) -> None:
        """Only once: a second acknowledgement finds nothing."""
        queue = self.filled(make_batch("a", rows=4))
        self.taken(queue)
        assert queue.acknowledge("a")
        assert not queue.acknowledge("a")
        stats = self.balanced_stats(queue)
        assert (stats.ledger["events"].delivered, stats.depth, stats.bytes) == (4, 0, 0)

    def test_what_the_backend_has_not_kept_is_not_delivered(self) -> None:
        """It is dropped for the reasons that are told, or a dead letter."""
        queue = self.filled(make_batch("a", rows=9))
        self.taken(queue)
        letter = DeadLetter(make_batch("b", rows=1), 200, "too late", 3.0)
        assert queue.acknowledge("a", {"late": 2, "odd": 1}, [letter])
        ledger = self.balanced_stats(queue).ledger["events"]
        assert (ledger.delivered, ledger.dead_lettered, ledger.dropped) == (5, 1, {"late": 2, "odd": 1})
        assert queue.dead_letters() == [letter]

    def test_only_what_is_in_flight_can_be_moved(self) -> None:
        """A queued or unknown batch is not acknowledged, deferred or replaced."""
        queue = self.filled(make_batch("a"))
        for name in ("a", "unknown"):
            assert not queue.acknowledge(name)
            assert not queue.defer(name, 0.0)
            assert not queue.replace([name], [make_batch("b")])
        assert self.balanced_stats(queue).ledger["events"].queued == 1

    def test_a_deferred_batch_waits_and_keeps_its_history(self) -> None:
        """It is passed over until it is due and remembers attempts and refusals."""
        queue = self.filled(make_batch("a"))
        self.taken(queue)
        now = time.time()
        assert queue.defer("a", now + 30.0, refusals=2)
        assert self.balanced_stats(queue).ledger["events"].queued == 1
        assert queue.lease("events", now + 29.0) == []
        (lease,) = queue.lease("events", now + 31.0)
        assert (lease.attempts, lease.refusals) == (1, 2)

    def test_a_deferred_batch_does_not_hold_up_others(self) -> None:
        """Older batches that are due are handed out meanwhile."""
        queue = self.filled(make_batch("old", created_at=1.0), make_batch("new", created_at=2.0))
        assert self.taken(queue) == ["new"]
        queue.defer("new", time.time() + 60.0)
        assert self.drained(queue) == ["old"]
