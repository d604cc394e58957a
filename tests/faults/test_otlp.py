"""A receiver that is down, processes that are killed: what an OTLP exporter accepted arrives, and how often."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.faults import SCALE, python_environment, read_line
from support.otlp_receiver import Receiver, otlp_receiver
from support.ports import free_port

pytestmark = pytest.mark.faults

RATE = 2000
SECONDS = 100 * SCALE
DOWN_SECONDS = 60 * SCALE
KILLS = ((0.2, 0), (0.7, 1))
"""When, as a share of the time, which process is killed: while the receiver is down, and after it came back."""
DRAIN_SECONDS = 120.0


class Emitting:
    """The test's hand on a `faults.otlp_emitter`."""

    def __init__(self, environment: dict[str, str], **plan: object) -> None:
        self.journal = Path(str(plan["journal"]))
        quiet = plan["exporters"] != "durable"
        # Others than ours are in an environment of their own.
        python = os.environ.get("OTLP_PYTHON", sys.executable) if quiet else sys.executable
        self.process = subprocess.Popen(
            [python, "-m", "faults.otlp_emitter", json.dumps(plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            text=True,
            env=python_environment(environment),
        )
        assert read_line(self.process) is not None

    @property
    def emitted(self) -> int:
        found = Path(f"{self.journal}.emitted").read_bytes()
        return int(struct.unpack("<q", found)[0])

    @property
    def accepted(self) -> set[int]:
        """The numbers whose export succeeded; the last line may have been cut by a kill."""
        lines = self.journal.read_text().splitlines()
        return {number for line in lines if line.endswith("]") for number in json.loads(line)}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def read(self, timeout: float) -> Any:
        return read_line(self.process, timeout)

    def order(self, order: str, timeout: float) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        return self.read(timeout)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


class Story:
    """Two processes on one file; the receiver comes up late; each process is killed once and started anew."""

    def __init__(self, tmp_path: Path, stack: ExitStack, exporters: str) -> None:
        self.port = free_port()
        self.everybody: list[Emitting] = []
        self.slowest = 0.0
        self._exporters = exporters
        self._stack = stack
        self._path = tmp_path
        self._environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_PYTHON_EXPORTER_DURABLE_QUEUE_URL": f"sqlite://{tmp_path}/queue/otlp.db",
            "OTEL_PYTHON_EXPORTER_DURABLE_QUEUE_MAX_BYTES": str(256 * 1024 * 1024),
            "STORE": f"{tmp_path}/azure",
            "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
        }

    def start(self, seconds: float) -> Emitting:
        number = len(self.everybody)
        plan = {
            "journal": str(self._path / f"journal-{number}"),
            "first": number * 1_000_000,
            "rate": RATE / 2,
            "seconds": seconds,
            "exporters": self._exporters,
        }
        self.everybody.append(Emitting(self._environment, **plan))
        self._stack.callback(self.everybody[-1].close)
        return self.everybody[-1]

    def tell(self) -> tuple[Receiver, list[Emitting]]:
        """Return the receiver and those who live at the end, when all is emitted."""
        clock = threading.Event()  # never set: the schedule is the experiment
        running = [self.start(SECONDS), self.start(SECONDS)]
        moments: list[tuple[float, Any]] = [(DOWN_SECONDS, None)]
        moments += [(share * SECONDS, victim) for share, victim in KILLS]
        now = 0.0
        receiver: Receiver | None = None
        for at, victim in sorted(moments, key=lambda moment: moment[0]):
            clock.wait(at - now)
            now = at
            if victim is None:
                receiver = self._stack.enter_context(otlp_receiver(self.port))
                # So that a kill finds requests that have arrived and are not answered yet.
                receiver.set_mode("slow", seconds=0.3)
            else:
                running[victim].kill()
                if receiver is not None:
                    receiver.set_mode("ok")
                running[victim] = self.start(SECONDS - now)
        for each in running:
            said = each.read(SECONDS + 60)
            assert said["emitted"]
            self.slowest = max(self.slowest, said["slowest"])
        assert receiver is not None
        return receiver, running

    @property
    def emitted(self) -> int:
        return sum(each.emitted for each in self.everybody)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def numbers(seen: dict[str, Any]) -> set[int]:
    return {number for found in seen["numbers"].values() for number in found}


def total(ledgers: dict[str, Any], name: str) -> int:
    return sum(ledger[name] for ledger in ledgers.values())


def test_killed_processes_and_a_receiver_that_was_down_lose_nothing_that_was_accepted(
    tmp_path: Path, stack: ExitStack
) -> None:
    story = Story(tmp_path, stack, "durable")
    receiver, running = story.tell()
    ledgers = [each.order(f"drain {DRAIN_SECONDS}", DRAIN_SECONDS + 60) for each in running][-1]
    for each in running:
        assert each.order("finish", 60) == {"finished": True}
    seen = receiver.seen(numbers=True)
    accepted: set[int] = set().union(*(each.accepted for each in story.everybody))
    arrived = numbers(seen)
    twice = sum(seen["twice"].values())
    print(
        f"\notlp: {story.emitted} emitted, {len(accepted)} accepted by export(), {len(accepted & arrived)} of them "
        f"delivered, {len(arrived - accepted)} more of kills between queue and journal, "
        f"{story.emitted - len(arrived)} lost in the SDK's processors at {len(KILLS)} kills, {twice} items twice in "
        f"{sum(seen['bodies_twice'].values())} requests, {seen['torn']} of them in other bytes, "
        f"the longest export() {story.slowest * 1e3:.0f} ms"
    )
    assert accepted <= arrived
    assert seen["torn"] == 0
    assert sum(seen["bodies_twice"].values()) <= 2 * len(KILLS)
    assert all(ledger["balanced"] for ledger in ledgers.values())
    assert total(ledgers, "delivered") == total(ledgers, "accepted") == len(arrived)


OTHERS = os.environ.get("OTLP_EXPORTERS", "plain").split()
"""Whose exporters are told the same story: plain, logfire, azure; the last two with OTLP_PYTHON, which has them."""


@pytest.mark.skipif(SCALE < 1 and "OTLP_EXPORTERS" not in os.environ, reason="tells nothing of this package")
@pytest.mark.parametrize("exporters", OTHERS)
def test_another_exporter_in_the_same_story_tells_what_that_is_worth(
    tmp_path: Path, stack: ExitStack, exporters: str
) -> None:
    story = Story(tmp_path, stack, exporters)
    receiver, running = story.tell()
    # As long as ours has to empty its queue.
    threading.Event().wait(DRAIN_SECONDS * SCALE)
    for each in running:
        each.order("finish", 120)
    seen = receiver.seen(numbers=True)
    arrived = numbers(seen)
    lost = story.emitted - len(arrived)
    print(
        f"\notlp, {exporters}: {story.emitted} emitted, {lost} lost ({lost / story.emitted:.0%}), "
        f"{sum(seen['twice'].values())} items twice, {seen['torn']} of them in other bytes"
    )
    assert lost > 0
