"""Exchanged batches, dead letters, and what goes when a queue is full."""

from __future__ import annotations

import time

from ..base import (
    DROPPED_DEAD_LETTER_OVERFLOW,
    DROPPED_OVERFLOW,
    DROPPED_PURGED,
    DeadLetter,
)
from .steps import Steps, make_batch


class Places(Steps):
    """Merging, splitting, dead letters and bounds."""

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

    def test_kinds_are_those_of_the_options_and_the_last_goes_first(self) -> None:
        """A store knows no kind by name."""
        kinds = ("spans", "logs", "points")
        queue = self.filled(*(make_batch(kind, kind, size=300) for kind in kinds), kinds=kinds)
        assert list(queue.stats().ledger) == list(kinds)
        queue.append(make_batch("more", "spans", size=300))
        assert self.taken(queue, "points") == []
        queue.append(make_batch("and more", "logs", size=300))
        assert self.taken(queue, "logs") == ["and more"]
        assert sorted(self.drained(queue, "spans")) == ["more", "spans"]
        assert all(ledger.balanced for ledger in queue.stats().ledger.values())

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
