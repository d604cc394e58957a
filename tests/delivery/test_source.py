"""What a sender asks of its queue, on a machine whose clock is set at the worst moment."""

from __future__ import annotations

import pytest

from opentelemetry_guard.delivery import source as source_module
from opentelemetry_guard.delivery.source import Source
from opentelemetry_guard.queue import steady
from opentelemetry_guard.queue.base import QueueOptions
from opentelemetry_guard.queue.conformance import make_batch
from opentelemetry_guard.queue.memory import MemoryQueue


class Clocks:
    """The clocks of a machine; the time of day is set by `jump` as soon as somebody has read it."""

    def __init__(self) -> None:
        self.unix, self.since_start, self.jump = 1_800_000_000.0, 5_000.0, 0.0

    def pass_by(self, seconds: float) -> None:
        self.unix += seconds
        self.since_start += seconds

    def time(self) -> float:
        read = self.unix
        self.unix, self.jump = read + self.jump, 0.0
        return read

    def monotonic(self) -> float:
        return self.since_start


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    for module in (steady, source_module):
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 86_400.0, -86_400.0])
def test_a_clock_that_is_set_while_a_batch_is_put_back_moves_its_retry_nowhere(clocks: Clocks, jump: float) -> None:
    queue = MemoryQueue(QueueOptions("source"), clock=clocks.time)
    source = Source(queue)
    queue.append(make_batch("a"))
    (lease,) = source.lease("events", False, 10, 1)
    clocks.jump = jump
    source.defer(lease.batch, 30.0, 0)
    assert clocks.jump == 0.0
    clocks.pass_by(29.0)
    assert not source.lease("events", False, 10, 1)
    clocks.pass_by(1.1)
    assert [again.batch.batch_id for again in source.lease("events", False, 10, 1)] == ["a"]
    queue.close()
