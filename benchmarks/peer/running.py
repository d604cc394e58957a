"""Contestants in processes of their own, which take turns; and what their rounds come to."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .backend import Backend

STARTS = 3
"""How often a contestant's process is started: how a process lies in memory alone makes some hundredths of its time."""

Round = Mapping[str, float]
"""What one round of one contestant measured, by the name of the figure."""


class Contestant:
    """A process that measures one round whenever it is asked."""

    def __init__(self, task: str, options: Mapping[str, object]) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        # Whoever installs a package has its bytecode too, also where this one lies as it is written.
        clean.pop("PYTHONDONTWRITEBYTECODE", None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peer.contestant", task, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean,
            cwd=Path(__file__).parents[2],
        )

    def round(self) -> Round:
        """Let it measure once, and return what it says."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a contestant has ended: {self._process.args}")
        measured: Round = json.loads(line)
        return measured

    def end(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def contestants(wanted: Mapping[str, tuple[str, Mapping[str, object]]]) -> Iterator[dict[str, Contestant]]:
    """Start the processes of contestants, by name: task and options of each."""
    with ExitStack() as stack:
        made = {}
        for name, (task, options) in wanted.items():
            made[name] = Contestant(task, options)
            stack.callback(made[name].end)
        yield made


def in_turn(
    wanted: Mapping[str, tuple[str, Mapping[str, object]]],
    rounds: int,
    *,
    backend: Backend,
    warm: int = 1,
    starts: int = STARTS,
) -> dict[str, list[Round]]:
    """Return the rounds of each contestant; they take turns, and the first `warm` rounds of a process don't count.

    Their processes are started up to `starts` times, and the rounds shared out among these. What the backend has
    accepted meanwhile is added: `events`, `requests` and `wire_bytes`.
    """
    taken: dict[str, list[Round]] = {name: [] for name in wanted}
    for start in range(min(starts, rounds)):
        with contestants(wanted) as running:
            for number in range(len(range(start, rounds, starts)) + warm):
                for name, contestant in running.items():
                    measured = _counted(contestant, backend)
                    if number >= warm:
                        taken[name].append(measured)
    return taken


def _counted(contestant: Contestant, backend: Backend) -> Round:
    backend.counted()
    measured = contestant.round()
    counted = backend.counted()
    arrived = {"events": counted.events, "requests": counted.requests, "wire_bytes": counted.wire_bytes}
    return {**arrived, **measured}


@dataclass
class Figure:
    """One line of the table: the rounds' values of each contestant, in one unit; less is better unless said."""

    title: str
    unit: str
    values: dict[str, Sequence[float]]
    against: str = "peer"
    aim: str = ""
    more_is_better: bool = False
    notes: str = ""

    def median(self, name: str) -> float:
        """Return what a contestant's rounds come to."""
        return statistics.median(self.values[name])

    def ratio(self, ours: str = "ours") -> float | None:
        """Return the median of the rounds' ratios, None where there is nothing to compare with."""
        if ours not in self.values or self.against not in self.values:
            return None
        pairs = zip(self.values[ours], self.values[self.against], strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs if theirs)


@dataclass
class Table:
    """Figures that have the same contestants."""

    title: str
    columns: dict[str, str]
    figures: list[Figure] = field(default_factory=list)
    text: str = ""


def values(rounds: Mapping[str, Sequence[Round]], figure: str, scale: float = 1.0) -> dict[str, Sequence[float]]:
    """Pick one figure of all contestants' rounds."""
    return {
        name: [measured[figure] * scale for measured in each]
        for name, each in rounds.items()
        if all(figure in measured for measured in each)
    }
