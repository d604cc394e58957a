"""Processes that see one attack together: what each counts goes to a store once a second, and comes back as a sum.

No request waits for it. A request notes which of its client's rows have changed (`touch`); a thread takes what was
counted there since it was last told to the store, and gives what others have counted to the same rows. What is found
meanwhile is claimed there, so that of all processes one tells it. While the store is away each process goes on by
itself, and tells at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import orjson
from opentelemetry import context
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import suppress_instrumentation

from ...events.enrichment import CORRELATION_KEY, INCIDENT
from ...process import end as process_end
from ...settings.once import log_once
from ..http.answers import AnsweredRequest, PassedRequest, Telling
from .analyzer import BehaviorAnalyzer, Told
from .sliding import Tally, Windows
from .store_place import open_store
from .stores import NAME_BYTES, Claim, Row, Store, Total

_logger = logging.getLogger(__name__)

Tell = Callable[[Mapping[str, object]], None]

STEP_SECONDS = 1.0
MAX_ROWS = 500
"""Rows that a process exchanges in a step at most."""
MAX_TOUCHED = 10_000
MAX_PUBLISHED = 20_000
"""Rows that a process has in the store at most, each in two or three buckets that have not run out; with that many it
counts further ones for itself."""
MAX_PENDING = 1_000
KEEP_SECONDS = 60.0
LOOK_SECONDS = 10.0
"""How often a store is looked for that there is none of yet."""
LONGEST_PAUSE = 60.0
_PORTION = 50
"""Rows for which the analyzer's lock is held at a time."""
_MARGIN = 30.0
_LIVING_BUCKETS = 2


class Pending(NamedTuple):
    """What was found, and waits for its claim."""

    told: Told
    fields: dict[str, object]
    context: Context


class _Published(NamedTuple):
    """What the store knows of this process in one bucket of a row, and of all of them."""

    mine: Tally
    bits: int


class Sharing:
    """An analyzer that shares; it is one as `http.judging` knows it.

    `touched` and the analyzer's tables are guarded by the analyzer's lock; `_pending` is appended to by requests and
    taken by the thread; everything else belongs to the thread, or to who calls `step`.
    """

    def __init__(
        self,
        analyzer: BehaviorAnalyzer,
        find: Callable[[], str | None],
        tell: Tell,
        *,
        open_store: Callable[[str], Store] = open_store,
    ) -> None:
        """Share what an analyzer counts.

        Args:
            analyzer: that counts.
            find: returns the URL of the store, None while there is none.
            tell: emits an event.
            open_store: makes the store of a URL.
        """
        self.analyzer = analyzer
        self.is_login = analyzer.is_login
        self.requests = analyzer.requests
        self._find = find
        self._tell = tell
        self._open = open_store
        self._by_number = analyzer.windows()
        self._windows = {id(windows): number for number, windows in enumerate(self._by_number)}
        self._touched: dict[tuple[int, bytes], None] = {}
        self._published: OrderedDict[tuple[int, bytes], _Published] = OrderedDict()
        self._pending: deque[Pending] = deque()  # its methods are atomic
        self._store: Store | None = None
        self._secret = b""
        self._healthy = False
        self._rest_until = 0.0
        self._pause = STEP_SECONDS
        self._keep_at = 0.0
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._stop = threading.Event()
        analyzer.touch = self.touch
        _sharings.add(self)

    def observe(self, answered: AnsweredRequest, now: float) -> Sequence[Mapping[str, object]]:
        """Count a request; return what is to be told at once, which is nothing while there is a store to ask."""
        if self._thread is None:
            self._start()
        return self.tell(self.analyzer.told(answered, now), answered)

    def passed(self, request: PassedRequest, now: float) -> Telling | None:
        """Count a request that went well, as `BehaviorAnalyzer.passed` does, and tell of it as `observe`."""
        if self._thread is None:
            self._start()
        told = self.analyzer.counted(request, now)
        return partial(self.tell, told) if told else None

    def tell(self, told: Sequence[Told], answered: AnsweredRequest) -> Sequence[Mapping[str, object]]:
        """Return the fields of the events that are to be told at once with a request."""
        if not told:
            return ()
        fields = [one.fields(answered, self.analyzer.rules.cooldown) for one in told]
        if not self._healthy or len(self._pending) >= MAX_PENDING:
            return fields
        here = context.get_current()
        self._pending.extend(Pending(one, its, here) for one, its in zip(told, fields, strict=True))
        return ()

    def touch(self, changed: tuple[Windows, ...], key: bytes) -> None:
        """Note that a client's rows have changed; the analyzer's lock is held."""
        if len(self._touched) < MAX_TOUCHED:
            for windows in changed:
                self._touched[self._windows[id(windows)], key] = None

    def close(self) -> None:
        """Tell what is granted, keep what is usual, and end the thread; the next request starts one again.

        It waits for the store once at most, and where that has answered lately only.
        """
        process_end.forget(self.close)
        self._stop.set()
        self._thread = None
        healthy, self._healthy = self._healthy, False
        if healthy and self._store is not None and self._pid == os.getpid():
            try:
                self._claim(self._store)
                self._keep(self._store)
            except Exception:
                _logger.debug("a store was away at the end", exc_info=True)
        self._tell_all()

    def _start(self) -> None:
        with self.analyzer.lock:
            if self._thread is not None:
                return
            self._stop = threading.Event()
            thread = self._thread = threading.Thread(
                target=self._run, args=(self._stop,), name="OtelGuardBehavior", daemon=True
            )
        with contextlib.suppress(RuntimeError):  # the interpreter ends
            thread.start()
        process_end.on_end(self.close, process_end.Stage.EMISSION)

    def _run(self, stop: threading.Event) -> None:
        with suppress_instrumentation():
            while not stop.wait(STEP_SECONDS):
                self.step(time.monotonic())

    def step(self, now: float) -> None:
        """Exchange what has changed, and tell what is claimed; it never raises.

        Args:
            now: seconds of a clock that never goes back.
        """
        if now < self._rest_until:
            return
        try:
            store = self._opened()
            if store is None:
                self._rest_until = now + LOOK_SECONDS
                return
            self._exchange(store)
            self._claim(store)
            if now >= self._keep_at:
                self._keep_at = now + KEEP_SECONDS
                self._keep(store)
            self._pause = STEP_SECONDS
        except Exception as error:  # noqa: BLE001  a store's client may raise anything
            self._away(now, error)

    def _opened(self) -> Store | None:
        if self._store is None:
            url = self._find()
            if url is None:
                return None
            self._store = self._open(url)
        if not self._healthy:
            self._secret = self._store.secret()
            with self.analyzer.lock:
                self.analyzer.name_clients(lambda key: self._hashed(b"own", key).hex())
            self._learn(self._store)
            self._healthy = True
        return self._store

    def _away(self, now: float, error: Exception) -> None:
        self._healthy = False
        self._tell_all()
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self._rest_until = now + self._pause
        log_once(
            _logger,
            logging.WARNING,
            f"the store in which processes put together what they count of clients is away "
            f"({type(error).__name__}); each goes on by itself, and tries again",
            cause="behavior store away",
        )

    def _tell_all(self) -> None:
        for finding in self._taken():
            self._tell_one(finding, {})

    def _taken(self) -> list[Pending]:
        taken: list[Pending] = []
        with contextlib.suppress(IndexError):  # at the end, another thread takes them as well
            while len(taken) < 2 * MAX_PENDING:
                taken.append(self._pending.popleft())
        return taken

    def _tell_one(self, finding: Pending, more: Mapping[str, object]) -> None:
        metadata = finding.fields["metadata"]
        told: dict[str, object] = {**(metadata if isinstance(metadata, dict) else {}), **more}
        if CORRELATION_KEY in told:
            told[CORRELATION_KEY] = told[INCIDENT]
        fields = {**finding.fields, "metadata": told}
        token = context.attach(finding.context)
        try:
            self._tell(fields)
        finally:
            context.detach(token)

    def _exchange(self, store: Store) -> None:
        with self.analyzer.lock:
            changed = list(islice(self._touched, MAX_ROWS))
            for which in changed:
                del self._touched[which]
        parts: list[tuple[tuple[int, bytes], Tally, Row]] = []
        for start in range(0, len(changed), _PORTION):
            with self.analyzer.lock:
                mine = [
                    (which, self._by_number[which[0]].mine(which[1])) for which in changed[start : start + _PORTION]
                ]
            parts += [
                (which, tally, self._row(which, tally))
                for which, tally in mine
                if tally is not None and self._has_room(which)
            ]
        if not parts:
            return
        totals = store.exchange([row for _, _, row in parts])
        for start in range(0, len(parts), _PORTION):
            with self.analyzer.lock:
                for (which, tally, _), total in zip(parts[start : start + _PORTION], totals[start:], strict=False):
                    self._merge(which, tally, *total)

    def _has_room(self, which: tuple[int, bytes]) -> bool:
        """Whether a row is in the store, or may be: a flood of clients must not fill it."""
        if which in self._published or len(self._published) < MAX_PUBLISHED:
            return True
        oldest, known = next(iter(self._published.items()))
        if self._by_number[oldest[0]].age(known.mine.bucket) <= _LIVING_BUCKETS:
            return False
        del self._published[oldest]
        return True

    def _row(self, which: tuple[int, bytes], mine: Tally) -> Row:
        """Return what the store is to add: what was counted since it was last told."""
        windows = self._by_number[which[0]]
        known = self._published.get(which)
        if known is None or known.mine.bucket != mine.bucket:
            before, counts, bits = self._name(which, mine.bucket - 1), mine.counts, mine.bits
        else:
            before, bits = None, mine.bits & ~known.bits
            counts = tuple(max(0, now - told) for now, told in zip(mine.counts, known.mine.counts, strict=True))
        return Row(
            self._name(which, mine.bucket),
            before,
            counts,
            bits,
            windows.widths[1],
            2 * windows.seconds + _MARGIN,
        )

    def _merge(self, which: tuple[int, bytes], mine: Tally, total: Total, before: Total | None) -> None:
        windows = self._by_number[which[0]]
        self._published[which] = _Published(mine, total.bits | mine.bits)
        self._published.move_to_end(which)
        others = tuple(max(0, all_of - ours) for all_of, ours in zip(total.counts, mine.counts, strict=True))
        windows.merge(which[1], Tally(mine.bucket, others, total.bits))
        if before is not None and any(before.counts):
            windows.merge(which[1], Tally(mine.bucket - 1, before.counts, before.bits), before=True)

    def _claim(self, store: Store) -> None:
        pending = self._taken()
        if not pending:
            return
        cooldown = self.analyzer.rules.cooldown
        claims = [
            Claim(
                self._hashed(b"incident", chapter.key),
                chapter.name,
                chapter.pause,
                chapter.pause + cooldown,
                chapter.bit,
                chapter.explains,
            )
            for chapter in (finding.told.chapter for finding in pending)
        ]
        try:
            granted = store.claim(claims)
        except Exception:
            self._pending.extendleft(reversed(pending))
            raise
        for finding, claimed in zip(pending, granted, strict=True):
            if claimed is not None:
                update = {"update": claimed.number} if claimed.number else {}
                self._tell_one(finding, {INCIDENT: claimed.name, **update})

    def _keep(self, store: Store) -> None:
        with self.analyzer.lock:
            learned = self.analyzer.learned()
        if learned:
            store.keep(orjson.dumps(learned))

    def _learn(self, store: Store) -> None:
        text = store.kept()
        if text is not None:
            with self.analyzer.lock:
                self.analyzer.learn(orjson.loads(text))

    def _name(self, which: tuple[int, bytes], bucket: int) -> bytes:
        windows = self._by_number[which[0]]
        # Processes with other rules have other windows, and other sums.
        kind = f"{which[0]} {windows.seconds:g} {windows.widths} {bucket & 0xFFFFFFFF}".encode()
        return self._hashed(kind, which[1])

    def _hashed(self, kind: bytes, key: bytes) -> bytes:
        return hashlib.blake2b(kind + b"\0" + key, digest_size=NAME_BYTES, key=self._secret).digest()

    def _after_fork(self) -> None:
        self._thread, self._store, self._healthy = None, None, False
        self._pending, self._touched = deque(), {}
        self._pid, self._stop = os.getpid(), threading.Event()


_sharings: weakref.WeakSet[Sharing] = weakref.WeakSet()


def _begin_in_child() -> None:
    # What waits is the parent's to tell, and so are its connections.
    for sharing in list(_sharings):
        sharing._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
