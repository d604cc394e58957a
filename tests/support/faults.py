"""Handles on the processes of the fault suite, and the figures that are read off them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .faulty_backend import API_KEY

TESTS = Path(__file__).parents[1]
SCALE = float(os.environ.get("FAULTS_SCALE", "0.2"))
"""Durations and amounts of the fault suite as a share of the full ones."""
START_SECONDS = 60.0
"""When a process that says nothing is given up."""

Json = dict[str, Any]


def python_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment without settings of this process's own, in which the tests' modules can be run."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    paths = [str(TESTS), str(TESTS.parent), environment.get("PYTHONPATH", "")]
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **(extra or {})}


def read_line(process: subprocess.Popen[str], timeout: float = START_SECONDS) -> Json | None:
    """Return the next JSON line of a process; None where it has ended, which it has to within `timeout` seconds."""
    assert process.stdout is not None
    watchdog = threading.Timer(timeout, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
    finally:
        watchdog.cancel()
    return json.loads(line) if line else None


class FaultyBackend:
    """The test's hand on a `support.faulty_backend` process."""

    def __init__(self, process: subprocess.Popen[str], port: int, control: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._process = process
        self._socket = socket.create_connection(("127.0.0.1", control), timeout=300)
        self._file = self._socket.makefile("rw", encoding="utf-8", newline="\n")

    @property
    def environment(self) -> dict[str, str]:
        """The variables of an exporter that sends here."""
        return {
            "OTEL_EXPORTER_GUARD_ENDPOINT": self.url,
            "OTEL_EXPORTER_GUARD_API_KEY": API_KEY,
            "OTEL_EXPORTER_GUARD_PROJECT_ID": "faults",
            # These agents are alone at their backend.
            "OTEL_EXPORTER_GUARD_FLEET_SIZE": "1",
        }

    def set_mode(self, mode: str, limit: int | None = None) -> float:
        """Change how it behaves; return the Unix time of the change."""
        return float(self._order(order="mode", mode=mode, limit=limit)["at"])

    def wait(self, keys: Sequence[str] = (), count: int = 0, timeout: float = 60.0) -> Json:
        """Wait until all of `keys`, and `count` events, are stored and answered; the result's ``done`` tells."""
        return self._order(order="wait", keys=list(keys), count=count, timeout=timeout)

    def summary(self) -> Json:
        """Return counts."""
        return self._order(order="summary")

    def report(self) -> Report:
        """Return everything that was stored."""
        return Report(self._order(order="report"))

    def close(self) -> None:
        """End the process."""
        self._file.close()
        self._socket.close()
        end(self._process)

    def _order(self, **order: object) -> Json:
        self._file.write(json.dumps(order) + "\n")
        self._file.flush()
        answer: Json = json.loads(self._file.readline())
        return answer


class Report:
    """What a backend stored, and how often."""

    def __init__(self, document: Json) -> None:
        self.stored: list[Json] = document["stored"]
        self.problems: list[str] = document["problems"]
        self.answers: dict[str, int] = document["answers"]
        self.requests: int = document["requests"]

    @property
    def keys(self) -> set[str]:
        """Every event that was stored, whether it could be said or not."""
        return {key for batch in self.stored for key in batch["keys"]}

    def duplicates(self) -> dict[str, list[Json]]:
        """Return the events that were stored more than once, each with the batches that it came in."""
        counts = Counter(key for batch in self.stored for key in batch["keys"])
        batches: dict[str, list[Json]] = {key: [] for key, count in counts.items() if count > 1}
        for batch in self.stored:
            for key in batch["keys"]:
                if key in batches:
                    batches[key].append(batch)
        return batches

    def accepted_at(self) -> dict[str, tuple[float, float]]:
        """Return for each event when it was emitted and when it was first accepted with an answer."""
        times: dict[str, tuple[float, float]] = {}
        for batch in self.stored:
            if batch["answered"]:
                for key, emitted in zip(batch["keys"], batch["emitted"], strict=True):
                    times.setdefault(key, (emitted, batch["at"]))
        return times

    def answered_again(self) -> int:
        """Return how many events were accepted with an answer although they had been before."""
        answered = [key for batch in self.stored if batch["answered"] for key in batch["keys"]]
        return len(answered) - len(set(answered))

    def metric_rows(self) -> int:
        """Return the rows of metrics in batches that are told apart by their id."""
        rows = {batch["batch_id"]: int(batch["rows"]) for batch in self.stored if batch["kind"] == "metrics"}
        return sum(rows.values())


@contextmanager
def faulty_backend() -> Iterator[FaultyBackend]:
    """Start a backend on free loopback ports and end it with the block."""
    process = start(["-m", "support.faulty_backend"], python_environment())
    ports = read_line(process)
    assert ports is not None, "the faulty backend did not start"
    backend = FaultyBackend(process, ports["port"], ports["control"])
    try:
        yield backend
    finally:
        backend.close()


class Emitter:
    """The test's hand on one `faults.emitter` process."""

    def __init__(
        self,
        journal: Path,
        environment: Mapping[str, str],
        *,
        worker: int = 0,
        rate: float = 100.0,
        seconds: float = 0.0,
        poison_every: int = 0,
    ) -> None:
        self.worker = worker
        self.sender = f"worker-{worker}"
        self.journal = journal
        self.rate = rate
        plan = {
            "journal": str(journal),
            "worker": worker,
            "rate": rate,
            "seconds": seconds,
            "poison_every": poison_every,
        }
        settings = {**environment, "OTEL_EXPORTER_GUARD_HEADERS": f"x-sender={self.sender}"}
        self.log = journal.with_suffix(f".{worker}.log")
        self.process = start(["-m", "faults.emitter", json.dumps(plan)], python_environment(settings), self.log)

    def started(self) -> float:
        """Return the Unix time at which it began to emit, as soon as it does."""
        return float(self._expect("started", START_SECONDS)["started"])

    def emitted(self, timeout: float) -> Json:
        """Return what it says when it has emitted everything and the processors have exported it."""
        said = self._expect("emitted", timeout)
        self._expect("exported", 60.0)
        return said

    @property
    def degraded(self) -> bool:
        """Whether it ever had to keep a batch in memory, because the store did not take it in time."""
        return "can't be written" in self.log.read_text()

    def stats(self) -> Json:
        """Return its delivery's statistics."""
        return self._ask("stats", "ledger", 30.0)

    def letters(self) -> list[Json]:
        """Return the dead letters of its queue."""
        letters: list[Json] = self._ask("letters", "letters", 60.0)["letters"]
        return letters

    def drain(self, timeout: float) -> Json:
        """Wait until nothing is queued or in flight; return the statistics then, ``drained`` tells."""
        return self._ask(f"drain {timeout}", "drained", timeout + 30.0)

    def finish(self) -> None:
        """Shut it down in order."""
        self._ask("finish", "finished", 60.0)
        self.close()

    def terminate(self) -> int:
        """End it with SIGTERM and return its exit status."""
        self.process.terminate()
        return self._reap()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self._reap()

    def close(self) -> None:
        """End it if it runs."""
        end(self.process)

    def _reap(self) -> int:
        try:
            return self.process.wait(timeout=60)
        finally:
            self.close()

    def _ask(self, order: str, key: str, timeout: float) -> Json:
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        return self._expect(key, timeout)

    def _expect(self, key: str, timeout: float) -> Json:
        said = read_line(self.process, timeout)
        assert said is not None, f"worker {self.worker} ended: {self.log.read_text()[-3000:]}"
        assert key in said, f"{key} expected from worker {self.worker}, got {said}"
        return said


def read_journals(journals: Sequence[Path]) -> tuple[set[str], list[float]]:
    """Return the keys that `export` accepted, and the seconds that each call took; a torn last line is no entry."""
    keys: set[str] = set()
    seconds: list[float] = []
    for journal in journals:
        for line in journal.read_text().splitlines(keepends=True) if journal.exists() else []:
            if line.endswith("\n"):
                entry = json.loads(line)
                keys.update(entry["keys"])
                seconds.append(entry["seconds"])
    return keys, seconds


def start(
    arguments: Sequence[str], environment: Mapping[str, str], errors: Path | None = None
) -> subprocess.Popen[str]:
    """Start a Python process that is spoken to by lines; what it says of errors goes to a file, or nowhere."""
    with errors.open("ab") if errors is not None else _nothing() as file:
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env=dict(environment),
        )


@contextmanager
def _nothing() -> Iterator[None]:
    yield None


def end(process: subprocess.Popen[str]) -> None:
    """End one process that we started; its standard input closes first, which ends it by itself."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:
                continue  # it has ended, and an order to it was still buffered
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
