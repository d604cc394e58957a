"""Threads that send batches to a backend, and remember what it has acknowledged."""

from __future__ import annotations

import threading
from typing import Any

import requests

from .backend import RunningBackend
from .sending import batch, event

ROWS = 20
"""Events of a batch."""

SENDERS = 3
ENOUGH = 30


class Senders:
    """Send until the backend goes away, or with `goes_on` until they are told to stop."""

    def __init__(self, backend: RunningBackend, goes_on: bool = False) -> None:
        self._backend, self._goes_on = backend, goes_on
        self.acknowledged: list[dict[str, Any]] = []
        self.unanswered: list[dict[str, Any]] = []
        self.enough = threading.Event()
        """Set when so much was acknowledged that a test may go on."""
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        with requests.Session() as http:
            http.trust_env = False
            while not self._stopped.is_set():
                body = batch(events=[event() for _ in range(ROWS)])
                url, headers = self._backend.url + "/api/v1/events", self._backend.headers
                try:
                    answer = http.post(url, json=body, headers=headers, timeout=20)
                except requests.RequestException:
                    self.unanswered.append(body)
                    if self._goes_on:
                        continue
                    return
                if answer.status_code == 503:
                    # A busy database, on a busy machine: nothing was promised.
                    self.unanswered.append(body)
                    continue
                assert answer.status_code == 200
                self.acknowledged.append(body)
                if len(self.acknowledged) >= ENOUGH:
                    self.enough.set()

    def join(self) -> None:
        """Wait until the backend has gone away."""
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """Send no more, and return when the last answer has come."""
        self._stopped.set()
        self.join()


def keys(batches: list[dict[str, Any]]) -> set[str]:
    """Return the keys of all events of some batches."""
    return {row["idempotency_key"] for one in batches for row in one["events"]}
