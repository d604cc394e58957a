"""The queue in memory."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.redis import eventually

from opentelemetry_guard.queue.base import DeliveryQueue, QueueOptions
from opentelemetry_guard.queue.conformance import QueueConformance, make_batch
from opentelemetry_guard.queue.memory import MemoryQueue

OPTIONS = QueueOptions(destination="ab12")


class TestMemoryQueue(QueueConformance):
    def make_queue(self, options: QueueOptions) -> DeliveryQueue:
        return MemoryQueue(options)


def test_objects_share_nothing() -> None:
    first, second = MemoryQueue(OPTIONS), MemoryQueue(OPTIONS)
    first.append(make_batch("a"))
    assert not second.exists()
    assert second.stats().depth == 0


def test_an_empty_queue_does_not_exist_yet() -> None:
    assert not MemoryQueue(OPTIONS).exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_empty_though_a_call_was_under_way() -> None:
    queue = MemoryQueue(OPTIONS)
    queue.append(make_batch("a"))
    with queue._database._slot(None):
        pid = os.fork()
        if pid == 0:
            try:
                queue.append(make_batch("b"))
                os._exit(0 if queue.stats().depth == 1 and queue.lease("events", 0.0)[0].batch.batch_id == "b" else 1)
            finally:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert queue.stats().depth == 1


def test_who_waits_has_its_turn_before_one_that_comes_back_at_once() -> None:
    queue = MemoryQueue(OPTIONS)
    connections = queue._database._connections.get()
    slot = connections.take(None)
    assert slot is not None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(connections.take, None)
        eventually(lambda: bool(connections._waiting))
        connections.give_back(slot)
        assert connections.take(0.0) is None
        assert waiting.result() is slot
    connections.give_back(slot)
    queue.append(make_batch("a"))
    assert queue.stats().depth == 1
