"""The conformance suite: what every delivery queue has to do, as tests that anybody's store can run.

Subclass it in a test module of your own and say how a queue is made; pytest
collects the tests, and any other runner can call them::

    from opentelemetry_guard.queue.conformance import QueueConformance

    class TestMyQueue(QueueConformance):
        def make_queue(self, options):
            return MyQueue(new_empty_store(), options)

        def make_sibling(self, queue, options):
            return MyQueue(queue.store, options)

Time is passed in: no test waits for a lease to run out. This module imports
no test framework.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from .base import (
    DROPPED_DEAD_LETTER_OVERFLOW,
    DROPPED_OVERFLOW,
    DROPPED_PURGED,
    KINDS,
    Batch,
    DeadLetter,
    DeliveryQueue,
    Kind,
    QueueOptions,
    QueueStats,
)


def make_batch(name: str, kind: Kind = "events", rows: int = 1, size: int = 10, created_at: float = 0.0) -> Batch:
    """Return a batch whose body has `size` bytes; `name` is its batch_id."""
    return Batch(name, kind, rows, (name.encode() * size)[:size], created_at=created_at)


class QueueConformance:
    """What a delivery queue does. Override `make_queue`, and `make_sibling` where several owners share a store."""

    options = QueueOptions(destination="conformance", max_bytes=1000, max_dead_letter_bytes=100, lease_seconds=20.0)
    """What the queues are made with; tests vary single fields of it."""

    def make_queue(self, options: QueueOptions) -> DeliveryQueue:
        """Return a queue on an empty store of its own."""
        raise NotImplementedError("say how a queue on an empty store is made")

    def make_sibling(self, queue: DeliveryQueue, options: QueueOptions) -> DeliveryQueue | None:
        """Return another owner of the same store, or None when a store has only one owner."""
        return None

    # Small steps that the tests are written in.

    def filled(self, *batches: Batch, **changes: object) -> DeliveryQueue:
        """Return a queue that holds `batches`, made with `changes` to the options."""
        queue = self.make_queue(replace(self.options, **changes))  # type: ignore[arg-type]
        for batch in batches:
            queue.append(batch)
        return queue

    def taken(
        self, queue: DeliveryQueue, kind: Kind = "events", after: float = 0.0, oldest: bool = False, **bounds: int
    ) -> list[str]:
        """Lease at `after` seconds from now and return the batch_ids."""
        return [lease.batch.batch_id for lease in queue.lease(kind, time.time() + after, oldest=oldest, **bounds)]

    def drained(self, queue: DeliveryQueue, kind: Kind = "events", after: float = 0.0) -> list[str]:
        """Lease one by one until nothing is due, and return the batch_ids."""
        names: list[str] = []
        while found := self.taken(queue, kind, after):
            names += found
        return names

    def balanced_stats(self, queue: DeliveryQueue) -> QueueStats:
        """Return the queue's statistics after checking that every ledger adds up."""
        stats = queue.stats()
        for kind in KINDS:
            assert stats.ledger[kind].balanced, (kind, stats.ledger[kind])
        return stats

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

    # Merging, splitting, dead letters.

    def test_batches_are_merged_into_one(self) -> None:
        """The rows stay in the ledger, the new batch comes alone."""
        queue = self.filled(make_batch("a", rows=1), make_batch("b", rows=2), make_batch("c"))
        names = self.taken(queue, max_batches=3)
        assert queue.replace(names, [make_batch("merged", rows=4, created_at=3.0)])
        (lease,) = queue.lease("events", time.time(), max_batches=5)
        assert (lease.batch.batch_id, lease.attempts) == ("merged", 1)
        ledger = self.balanced_stats(queue).ledger["events"]
        assert (ledger.accepted, ledger.in_flight) == (4, 4)

    def test_a_replacement_may_stay_handed_out(self) -> None:
        """The caller sends it at once: nobody else gets it, and it ends or waits like any batch in flight."""
        queue = self.filled(make_batch("a", rows=2), make_batch("b"))
        names = self.taken(queue, max_batches=2)
        assert queue.replace(names, [make_batch("c", rows=2), make_batch("d")], in_flight=True)
        stats = self.balanced_stats(queue)
        assert (stats.depth, stats.bytes) == (2, 20)
        assert (stats.ledger["events"].in_flight, stats.ledger["events"].queued) == (3, 0)
        assert self.taken(queue) == []
        assert queue.acknowledge("d")
        assert queue.defer("c", 0.0, refusals=1)
        (lease,) = queue.lease("events", time.time(), max_batches=5)
        assert (lease.batch, lease.attempts, lease.refusals) == (make_batch("c", rows=2), 1, 1)
        letter = DeadLetter(make_batch("bad"), 422, "no", 1.0)
        assert queue.replace(["c"], [make_batch("good")], [letter], in_flight=True)
        ledger = self.balanced_stats(queue).ledger["events"]
        assert (ledger.in_flight, ledger.dead_lettered, ledger.delivered) == (1, 1, 1)

    def test_a_batch_is_split_into_the_rest_and_dead_letters(self) -> None:
        """What the backend refuses is kept apart, with its answer."""
        queue = self.filled(make_batch("a", rows=3))
        self.taken(queue)
        letter = DeadLetter(make_batch("bad"), 422, "value is missing", 77.0)
        assert queue.replace(["a"], [make_batch("good", rows=2)], [letter])
        assert queue.dead_letters() == [letter]
        ledger = self.balanced_stats(queue).ledger["events"]
        assert (ledger.queued, ledger.dead_lettered) == (2, 1)

    def test_a_replacement_happens_wholly_or_not_at_all(self) -> None:
        """One batch that is not held, or a wrong number of rows, and nothing changes."""
        queue = self.filled(make_batch("a"), make_batch("b"))
        (name,) = self.taken(queue)
        before = self.balanced_stats(queue)
        assert not queue.replace([name, "unknown"], [make_batch("c", rows=2)])
        refused = False
        try:
            queue.replace([name], [make_batch("c", rows=2)])
        except ValueError:
            refused = True
        assert refused, "a replacement that changes the number of rows was taken"
        assert self.balanced_stats(queue) == before

    def dead(self, queue: DeliveryQueue, *letters: DeadLetter) -> None:
        """Append, lease and dead-letter batches."""
        for letter in letters:
            queue.append(letter.batch)
            self.taken(queue, letter.batch.kind)
            assert queue.replace([letter.batch.batch_id], [], [letter])

    def test_dead_letters_are_listed_newest_first(self) -> None:
        """In pages."""
        queue = self.filled()
        letters = [DeadLetter(make_batch(str(n)), 400, "no", float(n)) for n in range(3)]
        self.dead(queue, *letters)
        assert queue.dead_letters(limit=2) == [letters[2], letters[1]]
        assert queue.dead_letters(limit=2, offset=2) == [letters[0]]

    def test_the_oldest_dead_letters_make_room(self) -> None:
        """They are dropped and counted, and one beyond the whole bound is dropped itself."""
        queue = self.filled()
        self.dead(queue, *(DeadLetter(make_batch(str(n), size=40), 400, "no", float(n)) for n in range(3)))
        assert [letter.batch.batch_id for letter in queue.dead_letters()] == ["2", "1"]
        self.dead(queue, DeadLetter(make_batch("huge", size=101), 400, "no", 9.0))
        assert [letter.batch.batch_id for letter in queue.dead_letters()] == ["2", "1"]
        assert self.balanced_stats(queue).ledger["events"].dropped == {DROPPED_DEAD_LETTER_OVERFLOW: 2}

    def test_dead_letters_are_replayed_by_name_or_all(self) -> None:
        """They are queued again as attempted, so that each comes alone and keeps its batch_id."""
        queue = self.filled()
        self.dead(queue, *(DeadLetter(make_batch(str(n)), 400, "no", float(n)) for n in range(3)))
        assert queue.replay(["1", "unknown"]) == 1
        (lease,) = queue.lease("events", time.time(), max_batches=5)
        assert (lease.batch, lease.attempts) == (make_batch("1"), 1)
        assert queue.replay() == 2
        assert len(self.taken(queue, max_batches=5)) == len(self.taken(queue, max_batches=5)) == 1
        assert self.balanced_stats(queue).ledger["events"].in_flight == 3
        assert self.balanced_stats(queue).ledger["events"].dead_lettered == 0

    def test_dead_letters_are_purged_by_name_or_all(self) -> None:
        """They are dropped and counted."""
        queue = self.filled()
        self.dead(queue, *(DeadLetter(make_batch(str(n)), 400, "no", float(n)) for n in range(3)))
        assert queue.purge(["1", "unknown"]) == 1
        assert queue.purge() == 2
        assert queue.dead_letters() == []
        assert self.balanced_stats(queue).ledger["events"].dropped == {DROPPED_PURGED: 3}

    def test_a_dead_letter_is_not_appended_again(self) -> None:
        """Its batch_id is stored."""
        queue = self.filled()
        self.dead(queue, DeadLetter(make_batch("a"), 400, "no", 1.0))
        queue.append(make_batch("a"))
        assert self.balanced_stats(queue).ledger["events"].accepted == 1

    # Bounds.

    def test_drop_oldest_gives_up_the_oldest_of_the_least_important(self) -> None:
        """Metrics go before events, whatever came in."""
        queue = self.filled(
            make_batch("e0", size=400, created_at=0.0),
            make_batch("m1", "metrics", size=300, created_at=1.0),
            make_batch("m2", "metrics", size=300, created_at=2.0),
            make_batch("e3", size=300, created_at=3.0),
        )
        assert self.balanced_stats(queue).ledger["metrics"].dropped == {DROPPED_OVERFLOW: 1}
        queue.append(make_batch("e4", size=500, created_at=4.0))
        stats = self.balanced_stats(queue)
        assert stats.ledger["metrics"].dropped == {DROPPED_OVERFLOW: 2}
        assert stats.ledger["events"].dropped == {DROPPED_OVERFLOW: 1}
        assert self.drained(queue) == ["e4", "e3"]

    def test_metrics_never_push_events_out(self) -> None:
        """A metrics batch that fits only in an event's place is dropped, under both policies."""
        for policy in ("drop_oldest", "drop_newest"):
            queue = self.filled(make_batch("e", size=800), make_batch("m", "metrics", size=300), overflow=policy)
            stats = self.balanced_stats(queue)
            assert stats.ledger["metrics"].dropped == {DROPPED_OVERFLOW: 1}
            assert self.drained(queue) == ["e"]

    def test_drop_newest_refuses_what_comes_last(self) -> None:
        """An incoming batch is dropped, after metrics made room for events in vain."""
        queue = self.filled(make_batch("e0", size=800), make_batch("e1", size=300), overflow="drop_newest")
        assert self.drained(queue) == ["e0"]
        assert self.balanced_stats(queue).ledger["events"].dropped == {DROPPED_OVERFLOW: 1}

    def test_drop_newest_gives_up_metrics_for_an_event(self) -> None:
        """Events are worth more than metrics that came before."""
        queue = self.filled(
            make_batch("e0", size=500),
            make_batch("m", "metrics", size=400),
            make_batch("e1", size=400),
            overflow="drop_newest",
        )
        assert sorted(self.drained(queue)) == ["e0", "e1"]
        assert self.balanced_stats(queue).ledger["metrics"].dropped == {DROPPED_OVERFLOW: 1}

    def test_what_is_in_flight_is_never_dropped(self) -> None:
        """The incoming batch goes instead."""
        queue = self.filled(make_batch("a", size=900))
        self.taken(queue)
        queue.append(make_batch("b", size=900))
        assert self.balanced_stats(queue).ledger["events"].dropped == {DROPPED_OVERFLOW: 1}
        assert queue.acknowledge("a")

    def test_a_batch_beyond_the_whole_bound_is_dropped_at_once(self) -> None:
        """It is accepted, and evicts nothing."""
        queue = self.filled(make_batch("a"), make_batch("huge", rows=5, size=1001))
        ledger = self.balanced_stats(queue).ledger["events"]
        assert (ledger.accepted, ledger.queued, ledger.dropped) == (6, 1, {DROPPED_OVERFLOW: 5})

    def test_a_full_queue_takes_no_replay(self) -> None:
        """Nothing is evicted for dead letters; what does not fit stays one."""
        queue = self.filled()
        self.dead(queue, DeadLetter(make_batch("dead", size=50), 400, "no", 1.0))
        queue.append(make_batch("a", size=990))
        assert queue.replay() == 0
        ledger = self.balanced_stats(queue).ledger["events"]
        assert (ledger.queued, ledger.dead_lettered) == (1, 1)

    # Life of the queue object.

    def test_what_waits_can_be_looked_at(self) -> None:
        """The last stored comes first, in pages, and looking changes nothing."""
        queue = self.filled(
            make_batch("a", created_at=1.0), make_batch("b", "metrics", rows=3, size=20), make_batch("c")
        )
        assert self.taken(queue) == ["a"]
        seen = {batch.batch_id: batch for batch in queue.waiting()}
        assert list(seen) == ["c", "b", "a"]
        assert (seen["b"].kind, seen["b"].rows, seen["b"].size, seen["b"].in_flight) == ("metrics", 3, 20, False)
        assert (seen["a"].in_flight, seen["a"].attempts, seen["a"].created_at) == (True, 1, 1.0)
        assert [batch.batch_id for batch in queue.waiting(limit=1, offset=1)] == ["b"]
        assert self.balanced_stats(queue).depth == 3

    def test_it_goes_on_after_close(self) -> None:
        """A later call opens the store again, with everything in it that this process still has."""
        queue = self.filled(make_batch("a"))
        queue.close()
        queue.close()
        queue.append(make_batch("b"))
        assert sorted(self.drained(queue)) == ["a", "b"]

    def test_an_own_lapsed_lease_hurts_nobody(self) -> None:
        """What nobody claimed is still held and can be acknowledged."""
        queue = self.filled(make_batch("a"))
        self.taken(queue)
        queue.release()
        assert queue.acknowledge("a")

    def test_threads_share_a_queue(self) -> None:
        """Each batch is handed out once, whoever asks."""
        queue = self.filled(*(make_batch(str(n)) for n in range(40)))
        with ThreadPoolExecutor(4) as pool:
            leased = [pool.submit(self.taken, queue) for _ in range(40)]
        names = [name for future in leased for name in future.result()]
        assert sorted(names, key=int) == [str(n) for n in range(40)]

    # Several owners of one store.

    def test_a_sibling_leaves_a_living_owner_alone(self) -> None:
        """Queued or in flight, what another owner has is not handed out while its lease holds."""
        queue = self.filled(make_batch("a"), make_batch("b"))
        if (sibling := self.make_sibling(queue, self.options)) is None:
            return
        self.taken(queue)
        assert self.taken(sibling) == []
        assert not sibling.acknowledge("a")
        assert sibling.stats() == queue.stats()

    def test_a_sibling_claims_after_the_lease_has_run_out(self) -> None:
        """Queued, deferred and in-flight batches are handed out again, and the first owner has lost them."""
        queue = self.filled(*(make_batch(name, created_at=float(n)) for n, name in enumerate("abc")))
        if (sibling := self.make_sibling(queue, self.options)) is None:
            return
        assert self.taken(queue) == ["c"]
        assert self.taken(queue) == ["b"]
        queue.defer("c", time.time() + 10_000.0, refusals=1)
        leases = []
        while found := sibling.lease("events", time.time() + 1000.0):
            leases += found
        history = {lease.batch.batch_id: (lease.attempts, lease.refusals) for lease in leases}
        assert history == {"a": (0, 0), "b": (1, 0), "c": (1, 1)}
        assert not queue.acknowledge("b")
        assert not queue.defer("b", 0.0)
        assert not queue.replace(["b"], [make_batch("d")])
        assert sibling.acknowledge("b")
        ledger = self.balanced_stats(sibling).ledger["events"]
        assert (ledger.delivered, ledger.in_flight) == (1, 2)

    def test_a_replacement_that_stayed_handed_out_is_claimed(self) -> None:
        """When its owner is gone, it comes to the next one as attempted."""
        queue = self.filled(make_batch("a"))
        if (sibling := self.make_sibling(queue, self.options)) is None:
            return
        self.taken(queue)
        assert queue.replace(["a"], [make_batch("b")], in_flight=True)
        assert self.taken(sibling) == []
        (lease,) = sibling.lease("events", time.time() + 1000.0)
        assert (lease.batch.batch_id, lease.attempts) == ("b", 1)
        assert not queue.acknowledge("b")

    def test_the_oldest_batch_may_be_a_dead_owners(self) -> None:
        """With `oldest` it is claimed though the asking owner has something due; otherwise that comes first."""
        queue = self.filled(make_batch("old", created_at=1.0), make_batch("older", created_at=0.0))
        if (sibling := self.make_sibling(queue, self.options)) is None:
            return
        sibling.append(make_batch("mine", created_at=2.0))
        queue.close()
        assert self.taken(sibling) == ["mine"]
        sibling.append(make_batch("new", created_at=3.0))
        assert self.taken(sibling, oldest=True) == ["older"]
        assert self.drained(sibling) == ["new", "old"]

    def test_a_released_owner_is_claimed_at_once(self) -> None:
        """The next process does not wait for the lease of one that went orderly."""
        queue = self.filled(make_batch("a"), make_batch("m", "metrics"))
        if (sibling := self.make_sibling(queue, self.options)) is None:
            return
        queue.close()
        assert self.taken(sibling) == ["a"]
        assert self.taken(sibling, "metrics") == ["m"]

    def test_a_renewed_lease_holds(self) -> None:
        """One renewal covers everything that the owner has."""
        queue = self.filled(make_batch("a"), make_batch("m", "metrics"))
        if (sibling := self.make_sibling(queue, self.options)) is None:
            return
        queue.renew(time.time() + 1000.0)
        assert self.taken(sibling, after=1000.0) == []
        assert self.taken(sibling, "metrics", after=1000.0) == []

    def test_replayed_letters_belong_to_nobody(self) -> None:
        """Whoever asks first gets them, though another owner lives."""
        queue = self.filled()
        if (sibling := self.make_sibling(queue, self.options)) is None:
            return
        self.dead(queue, DeadLetter(make_batch("a"), 400, "no", 1.0))
        assert queue.replay() == 1
        assert self.taken(sibling) == ["a"]
