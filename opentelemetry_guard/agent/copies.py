"""Copies of undelivered events in a key-value store of the user's, for a machine that does not come back.

A handler that tells no address of a Redis can't hold the delivery's queue.
Each event gets a copy there when it is written ahead, which goes when the
backend has taken the event. What a machine leaves behind when it disappears,
another one that has the same store sends: under the same `idempotency_key`,
and only when the first has given no sign of life for a while.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..delivery.envelope import Envelope
from ..delivery.identity import install_id, state_directory
from ..events.codec import Row
from ..settings.once import log_once
from .loop import LoopThread

_logger = logging.getLogger(__name__)

EVENTS, OWNERS = "otel_guard_events", "otel_guard_owners"
"""Namespaces of the copies, and of the signs of life of who made them."""
COPY_SECONDS = 7 * 86_400
"""Seconds after which the store may forget a copy."""
LIFE_SECONDS = 60.0
"""Seconds that a sign of life counts; there are three in that time."""
CALL_SECONDS = 5.0
"""Seconds that one call of the handler may take."""
PAUSE_SECONDS = 10.0
"""Seconds without copies after a call that failed."""
MAX_PENDING = 10_000
"""Changes that wait to be made, at most; beyond that the oldest is left out."""


class Copies:
    """Keeps the copies of one process, on a thread of its own.

    `_condition` guards `_pending` (a row is a copy to make, None one to
    delete), `_busy` and `_ending`; the handler is called outside of it.
    """

    def __init__(
        self,
        handler: object,
        loop: asyncio.AbstractEventLoop | None,
        key: Callable[[], str | None],
        restore: Callable[[Row], object],
    ) -> None:
        """Make the copies' keeper; nothing is done before `start`.

        Args:
            handler: a `RedisHandlerProtocol`.
            loop: the event loop that the handler belongs to; None where its coroutines may run anywhere.
            key: returns the encryption key, None where rows are not encrypted.
            restore: takes an event that a dead machine has left behind.
        """
        self._handler: Any = handler
        self._app_loop = loop
        self._own_loop = LoopThread("OtelGuardCopiesLoop")
        self._key = key
        self._restore = restore
        self._install = _install()
        self._ending = True
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._owner = str(uuid4())
        self._condition = threading.Condition()
        self._pending: OrderedDict[str, Row | None] = OrderedDict()
        self._busy = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, and send what others have left behind."""
        with self._condition:
            self._ending = False
            self._start_thread()

    def _start_thread(self) -> None:
        # Under the condition's lock. A child of a fork comes here with the first event that it has.
        if self._thread is None and not self._ending:
            self._thread = threading.Thread(target=self._run, name="OtelGuardCopies", daemon=True)
            self._thread.start()

    def keep(self, rows: Sequence[Row]) -> None:
        """Copy events, soon."""
        with self._condition:
            for row in rows:
                self._pending[str(row["idempotency_key"])] = row
            while len(self._pending) > MAX_PENDING:
                self._pending.popitem(last=False)
            self._start_thread()
            self._condition.notify_all()

    def forget(self, keys: Sequence[str]) -> None:
        """Delete the copies of events that were taken, soon."""
        with self._condition:
            for key in keys:
                # One that was not made yet need not be made.
                if self._pending.pop(key, None) is None:
                    self._pending[key] = None
            self._condition.notify_all()

    def end(self, timeout: float) -> None:
        """Make the changes that wait, for at most `timeout` seconds, and end the thread."""
        with self._condition:
            self._condition.wait_for(lambda: not self._pending and not self._busy, timeout)
            self._ending = True
            self._condition.notify_all()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout)

    def _run(self) -> None:
        next_sign = 0.0
        try:
            self._call("initialize")
        except Exception as error:  # noqa: BLE001  a user's own store may raise anything; delivery goes on without it
            self._complain(error)
        while True:
            try:
                if time.monotonic() >= next_sign:
                    next_sign = time.monotonic() + LIFE_SECONDS / 3
                    self._call("set_key", OWNERS, self._owner, "alive", max(1, int(LIFE_SECONDS)))
                    self._take_over()
                if not self._change(next_sign - time.monotonic()):
                    self._call("delete", OWNERS, self._owner)
                    return
            except Exception as error:  # noqa: BLE001  a user's own store may raise anything; delivery goes on without it
                self._complain(error)
                if not self._pause():
                    return

    def _change(self, wait: float) -> bool:
        """Make the oldest change, or wait for one; return whether to go on."""
        with self._condition:
            self._condition.wait_for(lambda: self._pending or self._ending, max(0.0, wait))
            if not self._pending:
                return not self._ending
            name, row = self._pending.popitem(last=False)
            self._busy = True
        try:
            if row is None:
                self._call("delete", EVENTS, name)
            else:
                self._call("set_key", EVENTS, name, self._written(row), COPY_SECONDS)
        finally:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
        return True

    def _pause(self) -> bool:
        """Leave the store alone for a while; a store that reports its failure as an event must not bring forth more."""
        with self._condition:
            self._pending.clear()
            self._condition.wait_for(lambda: self._ending, PAUSE_SECONDS)
            self._pending.clear()
            self._condition.notify_all()
            return not self._ending

    def _take_over(self) -> None:
        alive = {self._owner: True}
        for name in self._call("keys", f"{EVENTS}:*") or ():
            key = _text(name).rpartition(":")[2]
            copy = _read(self._call("get_key", EVENTS, key))
            # What this installation has left is in its own queue, which outlives the process.
            if copy is None or (self._install and copy.get("install") == self._install):
                continue
            owner = str(copy.get("owner"))
            if owner not in alive:
                alive[owner] = self._call("get_key", OWNERS, owner) is not None
            row = None if alive[owner] else self._opened(copy)
            if row is not None:
                self._restore(row)

    def _written(self, row: Row) -> str:
        key = self._key()
        content: dict[str, object] = {"row": row} if key is None else {"sealed": Envelope(key).seal(_dumps(row))}
        return _dumps({"owner": self._owner, "install": self._install, **content}).decode()

    def _opened(self, copy: dict[str, Any]) -> Row | None:
        key = self._key()
        try:
            row = json.loads(Envelope(key).open(str(copy["sealed"]))) if key and "sealed" in copy else copy.get("row")
        except ValueError:
            return None  # somebody else's key
        return row if isinstance(row, dict) else None

    def _call(self, method: str, *arguments: object) -> Any:
        result = getattr(self._handler, method)(*arguments)
        if not inspect.isawaitable(result):
            return result

        async def awaited() -> Any:
            return await result

        if self._app_loop is not None and self._app_loop.is_running():
            return asyncio.run_coroutine_threadsafe(awaited(), self._app_loop).result(CALL_SECONDS)
        return self._own_loop.run(awaited(), CALL_SECONDS)

    def _complain(self, error: Exception) -> None:
        log_once(
            _logger,
            logging.WARNING,
            f"the store {type(self._handler).__name__} takes no copies of events for now ({type(error).__name__}); "
            "they wait in the local queue as without it",
            cause="a store of copies that fails",
        )


_all: weakref.WeakSet[Copies] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # What is pending is the parent's to make; the thread does not exist here, and the lock may have been its.
    for copies in _all:
        copies._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _install() -> str:
    directory: Path | None = state_directory()
    return "" if directory is None else install_id(directory)


def _dumps(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _read(value: object) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        copy = json.loads(_text(value))
    except ValueError:
        return None
    return copy if isinstance(copy, dict) else None
