"""The life of a queue object, and several owners of one store."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from ..base import (
    DeadLetter,
)
from .steps import Steps, make_batch


class Owners(Steps):
    """Closing, threads, and what one owner takes over from another."""

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
