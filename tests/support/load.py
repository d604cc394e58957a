"""Senders that keep a rate, send again what was not acknowledged, and remember what was: a fleet, seen by backends."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import Counter
from itertools import count
from pathlib import Path
from uuid import uuid4

import orjson
import requests
from sqlalchemy import URL, Engine, create_engine, text

ROWS = 100
"""Events of a batch."""

PATIENCE = 180.0
"""Seconds after which senders that get no answer are given up."""

_PAUSE = 0.05


class Load:
    """Threads that send, in turn, to whichever of `urls` answers; the list may be changed meanwhile."""

    def __init__(self, urls: list[str], api_key: str, project: str, *, rate: float, senders: int = 4) -> None:
        """Send `rate` events a second, all senders together, until `stop`."""
        self.urls = urls
        self._headers = {
            **{"X-API-Key": api_key, "X-Project-ID": project},
            **{"Content-Type": "application/json", "Content-Encoding": "gzip"},
        }
        self._project, self._every = project, ROWS * senders / rate
        self._stopped, self._given_up, self._turns = threading.Event(), threading.Event(), count()
        self._lock = threading.Lock()
        # The lock guards what was sent and answered.
        self.acknowledged: set[str] = set()
        """The keys of all events that a backend has said it keeps."""
        self.batches_of: Counter[str] = Counter()
        """Batches that were acknowledged, by who did."""
        self.again = 0
        """Times that a batch had to be sent again."""
        self.duplicates = 0
        """Events of which a backend has said that it had them already."""
        self.slowest = 0.0
        """Seconds that a batch took at most until it was acknowledged."""
        self.failures: list[str] = []
        """Answers that no sender should get."""
        self._began = time.monotonic()
        self.seconds = 0.0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(senders)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Load:
        """Return the senders, which are at work."""
        return self

    def __exit__(self, *_: object) -> None:
        """End them, whatever they still have to send."""
        self._stopped.set()
        self._given_up.set()

    def stop(self) -> None:
        """Send nothing new, and return when the last batch was acknowledged."""
        self._stopped.set()
        deadline = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), "a batch was not acknowledged: " + self.told()
        self.seconds = time.monotonic() - self._began
        assert not self.failures, self.failures

    def told(self) -> str:
        """Return the figures in words."""
        seconds = self.seconds or time.monotonic() - self._began
        events = len(self.acknowledged)
        return (
            f"{events:,} events acknowledged in {seconds:.0f} s, {events / seconds:,.0f}/s; {self.again} batches sent "
            f"again, {self.duplicates} events of them were there already; the slowest took {self.slowest:.1f} s"
        )

    def _run(self) -> None:
        due = time.monotonic()
        with requests.Session() as http:
            http.trust_env = False
            while not self._stopped.is_set():
                keys = [str(uuid4()) for _ in range(ROWS)]
                self._deliver(http, keys, self._body(keys))
                due = max(due + self._every, time.monotonic() - 5 * self._every)
                self._stopped.wait(max(0.0, due - time.monotonic()))

    def _body(self, keys: list[str]) -> bytes:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        events = [
            {
                **{"idempotency_key": key, "timestamp": now, "event_type": "rate_limited", "action_taken": "logged"},
                **{"ip_address": f"203.0.113.{number % 20}", "endpoint": f"/items/{number % 10}"},
            }
            for number, key in enumerate(keys)
        ]
        body = {"project_id": self._project, "batch_id": str(uuid4()), "events": events}
        return gzip.compress(json.dumps(body).encode(), 1)

    def _deliver(self, http: requests.Session, keys: list[str], body: bytes) -> None:
        """Send a batch until it is acknowledged, as senders do."""
        began, tried = time.monotonic(), 0
        while time.monotonic() - began < PATIENCE and not self._given_up.is_set():
            urls = tuple(self.urls)
            url = urls[next(self._turns) % len(urls)]
            try:
                answer = http.post(f"{url}/api/v1/events", data=body, headers=self._headers, timeout=30)
            except requests.RequestException:
                answer = None
            if answer is not None and answer.status_code == 200:
                with self._lock:
                    self.acknowledged.update(keys)
                    self.batches_of[url] += 1
                    self.duplicates += answer.json()["duplicates"]
                    self.again += tried
                    self.slowest = max(self.slowest, time.monotonic() - began)
                return
            if answer is not None and answer.status_code != 503:
                self.failures.append(f"{answer.status_code} {answer.text[:200]}")
                return
            tried += 1
            self._given_up.wait(_PAUSE)


def engine_of(database: Path | URL) -> Engine:
    """Return an engine for a backend's database of any version."""
    return create_engine(URL.create("sqlite", database=str(database)) if isinstance(database, Path) else database)


def stored_keys(database: Path | URL) -> list[str]:
    """Return the key of every stored event, as often as it is stored."""
    engine = engine_of(database)
    try:
        with engine.connect() as connection:
            rows = connection.execution_options(yield_per=10_000).execute(text('SELECT "row" FROM events'))
            return [str(orjson.loads(row)["idempotency_key"]) for (row,) in rows]
    finally:
        engine.dispose()
