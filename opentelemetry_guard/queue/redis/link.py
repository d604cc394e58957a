"""The link to Redis: who makes the calls, how long anybody waits for them, and when to leave Redis alone.

One thread per process, the *courier*, makes every call, and whoever needs the
answer waits for it for a bounded time. A thread, since nothing less bounds
the time: resolving a name, shaking hands, and asking sentinels and cluster
nodes one after the other have no common deadline in any client.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from opentelemetry.instrumentation.utils import suppress_instrumentation

from .arbiter import Script
from .client import Answers, connect
from .trouble import Trouble, trouble_of
from .url import RedisAddress

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"""How long Redis is left alone after failures, in seconds: doubling from the first to the longest."""
REFUSED_PAUSE = 30.0
"""How long Redis is left alone after it refused our credentials, in seconds."""
OVERDUE = 0.8
"""The part of the patience after which a call that is under way counts as unanswered when its caller gives up: the
call begins a little later than the wait for it."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """How the link is doing.

    `up`, the last error (without credentials), the failures since the last
    success, and `refused`: how many batches Redis had no room for a copy of
    when it was asked first.
    """

    up: bool = False
    last_error: str | None = None
    failures: int = 0
    refused: int = 0


def pause_after(failures: int, refused: bool, chance: float) -> float:
    """Return for how many seconds Redis is left alone; `chance` from 0 to 1 spreads a fleet over the upper half."""
    longest = REFUSED_PAUSE if refused else min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 16))
    return longest * (0.5 + chance / 2)


def means_full(error: BaseException) -> bool:
    """Whether an error says that Redis has no memory left."""
    return "OutOfMemoryError" in {kind.__name__ for kind in type(error).__mro__} or "OOM " in str(error)


def describe(error: BaseException, secrets: Sequence[str]) -> str:
    """Return what an error says in one bounded line, without secrets."""
    text = " ".join(str(error).split())
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


class Caller:
    """What a job of the courier gets: it runs scripts on one destination's keys, and takes the time of each call.

    `waiting_since` is when the call that is under way began (monotonic
    seconds, None between calls); `slowest` is the longest so far in seconds,
    None when nothing was called. `use` comes before `run`.
    """

    _client: Answers

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys
        self.waiting_since: float | None = None
        self.slowest: float | None = None

    def use(self, client: Callable[[], Answers]) -> Answers:
        """Take the client that is returned. Making one may take calls, which are timed but tell nothing of scripts."""
        self._client = self._timed(client)
        self.slowest = None
        return self._client

    def run(self, script: Script, *arguments: str | bytes | int) -> object:
        """Run a script in one round trip, in two the first time that a server sees it."""
        from redis.exceptions import NoScriptError

        client = self._client
        try:
            return self._timed(lambda: client.evalsha(script.sha, len(self._keys), *self._keys, *arguments))
        except NoScriptError:
            return self._timed(lambda: client.eval(script.text, len(self._keys), *self._keys, *arguments))

    def _timed(self, call: Callable[[], T]) -> T:
        began = self.waiting_since = time.monotonic()
        try:
            return call()
        finally:
            self.waiting_since = None
            self.slowest = max(self.slowest or 0.0, time.monotonic() - began)


class _Ticket(Generic[T]):
    """A job and the place of its answer."""

    def __init__(self, job: Callable[[Caller], T]) -> None:
        self._job = job
        self.answer: Future[T] = Future()

    def run(self, caller: Caller) -> None:
        self.answer.set_result(self._job(caller))


class Link:
    """Calls to one Redis, up or down.

    A call that fails or is not answered in time is a failure; a job that only
    waits for the courier is not. After a failure the link is *closed* for a
    pause: calls return at once and touch nothing. Then one job at a time is
    let through, and nobody waits for it, until one has succeeded. A job may
    run on after its caller has gone, so it must be one that can be repeated,
    and must write down its own results.

    `_lock` guards all fields below it and is never held over a call.
    """

    def __init__(self, address: RedisAddress, keys: Sequence[str], patience: float) -> None:
        """Take where Redis is, the keys for all scripts, and how long a caller waits (seconds)."""
        self._address = address
        self._keys = keys
        self._patience = patience
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[_Ticket[object] | None] = queue.SimpleQueue()
        self._courier: threading.Thread | None = None
        self._caller: Caller | None = None
        self._trial: Future[object] | None = None
        self._state = LinkState()
        self._open_at = 0.0
        self._up_since = float("inf")
        self._outages = 0
        self._was_up = False
        self._said: str | None = None

    @property
    def state(self) -> LinkState:
        """How the link is doing."""
        return self._state

    @property
    def outages(self) -> int:
        """How often the link went down; what was true of Redis before may not be true after."""
        return self._outages

    def up_for(self) -> float:
        """Return for how many seconds Redis has been reachable without interruption."""
        return time.monotonic() - self._up_since

    def call(self, job: Callable[[Caller], T], within: float | None = None) -> T | None:
        """Have a job done and return what it returns.

        None when Redis is down, or when there is no answer within the
        patience, or within `within` seconds if that is less.
        """
        recovering = self._state.failures > 0
        ticket = self.post(job)
        if ticket is None or recovering:
            return None
        try:
            return ticket.result(self._patience if within is None else max(0.0, min(within, self._patience)))
        except CancelledError:
            return None
        except FutureTimeoutError:
            ticket.cancel()
            self._close_if_overdue()
            return None

    def post(self, job: Callable[[Caller], T]) -> Future[T] | None:
        """Have a job done without waiting for it; None when Redis is being left alone."""
        self._close_if_overdue()
        with self._lock:
            if time.monotonic() < self._open_at or self._is_on_trial() or not self._has_courier():
                return None
            ticket = _Ticket(job)
            if self._state.failures:
                self._trial = cast("Future[object]", ticket.answer)
            self._inbox.put(cast("_Ticket[object]", ticket))
            return ticket.answer

    def close(self, within: float | None = None) -> None:
        """Close the connection as soon as the courier is free, and end its thread. A later call begins again.

        Waits for the courier for the patience, or `within` seconds if that is less; not at all when Redis is down.
        """
        with self._lock:
            courier, self._courier = self._courier, None
            if courier is None:
                return
            self._inbox.put(None)
            self._inbox = queue.SimpleQueue()
            self._up_since = float("inf")
            recovering = self._state.failures > 0
        if not recovering:
            courier.join(self._patience if within is None else max(0.0, min(within, self._patience)))

    def _is_on_trial(self) -> bool:
        """Whether a job tries out a Redis that had failed; what it posts itself goes through. Needs the lock."""
        if not self._state.failures or self._trial is None or self._trial.done():
            return False
        return threading.current_thread() is not self._courier

    def _close_if_overdue(self) -> None:
        """Take Redis for down if it is late with the answer to the call that is under way."""
        caller = self._caller
        since = None if caller is None else caller.waiting_since
        if since is not None and time.monotonic() - since >= self._patience * OVERDUE:
            with self._lock:
                closed = time.monotonic() < self._open_at
            if not closed:
                self._close_unanswered()

    def _has_courier(self) -> bool:
        """Start the courier unless it runs; the caller holds the lock."""
        if self._courier is None:
            courier = threading.Thread(target=self._run, args=(self._inbox,), name="OtelGuardRedis", daemon=True)
            try:
                courier.start()
            except RuntimeError:  # the interpreter is going down and starts no threads any more
                return False
            self._courier = courier
        return True

    def _run(self, inbox: queue.SimpleQueue[_Ticket[object] | None]) -> None:
        client: Answers | None = None
        with suppress_instrumentation():
            while (ticket := inbox.get()) is not None:
                if time.monotonic() < self._open_at:
                    ticket.answer.cancel()
                if ticket.answer.set_running_or_notify_cancel():
                    client = self._do(ticket, client)
            _disconnect(client)

    def _do(self, ticket: _Ticket[object], client: Answers | None) -> Answers | None:
        """Do one job, and return the client for the next."""
        from redis.exceptions import RedisClusterException, RedisError

        caller = self._caller = Caller(self._keys)
        try:
            known = client
            client = caller.use(lambda: connect(self._address) if known is None else known)
            ticket.run(caller)
        except (RedisError, RedisClusterException, OSError) as error:
            self._close(describe(error, self._address.secrets), trouble_of(error, self._address))
            ticket.answer.set_exception(CancelledError())
            if self._address.topology != "cluster":
                # A connection may be half read, or lead to a master that is a replica now
                _disconnect(client)
                return None
            # A cluster client has found new nodes by now, and may know more of them than the URL
        except Exception as error:
            # The courier must live; the error goes to whoever asked
            ticket.answer.set_exception(error)
            logger.debug("a call for the Redis queue failed", exc_info=error)
        else:
            if caller.slowest is not None:
                self._succeeded(caller.slowest)
        return client

    def _succeeded(self, slowest: float) -> None:
        if slowest > self._patience:
            self._close_unanswered()
            return
        with self._lock:
            came_up, failed = not self._state.up, self._state.failures > 0
            if came_up:
                self._was_up = True
                self._up_since = time.monotonic()
                self._state = LinkState(up=True)
                self._said = None
        if came_up and failed:
            logger.info("Redis at %s is in use again", self._address)

    def _close_unanswered(self) -> None:
        late = TimeoutError(f"no answer within {self._patience} s")
        self._close(str(late), trouble_of(late, self._address))

    def _close(self, error: str, trouble: Trouble) -> None:
        """Leave Redis alone for a while, and say why, once for each cause of an outage."""
        with self._lock:
            if trouble.remedy and (trouble.refused or not self._was_up):
                error = f"{error}; {trouble.remedy}"
            if self._state.up:
                self._outages += 1
            failures = self._state.failures + 1
            self._state = LinkState(False, error, failures)
            self._up_since = float("inf")
            self._open_at = time.monotonic() + pause_after(failures, trouble.refused, random.random())
            said, self._said = self._said, trouble.cause
        if said == trouble.cause:
            return
        if trouble.refused:
            logger.error(
                "Redis at %s: %s (%s). Batches are safe in the store on this machine and are sent from there, but have "
                "no copy in Redis",
                self._address,
                trouble.what,
                error,
            )
        else:
            logger.warning(
                "Redis at %s can't be used now (%s); batches are kept in the store on this machine and are sent from "
                "there, and copied when Redis is back",
                self._address,
                error,
            )


def _disconnect(client: Answers | None) -> None:
    if client is None:
        return
    try:
        client.close()
    except Exception as error:  # noqa: BLE001 (closing what is broken may fail in any way, and nothing depends on it)
        logger.debug("a connection to Redis could not be closed: %s", type(error).__name__)
