"""Emissions that interrupt other code on their own thread: put off until that code has gone on.

The handler of a signal, a finalizer and a callback of the garbage collector
run in the midst of anything, and so does a log handler, in the midst of what
logs. What they interrupt may hold a lock of the SDK's or of ours, which are
not made to be taken twice: an emission there would wait for itself for ever.

- Within an emission of this thread it waits for that one's end, at most `MAX_INNER` of them.
- Within other code that may hold such a lock (the application's own `counter.add`, an export) a thread that is there
  for nothing else emits it, at most `MAX_LATER` at a time.
- Beyond these numbers it is counted as dropped (`reentrant`), so that a log handler that emits what emission logs comes
  to an end.
"""

from __future__ import annotations

import _thread
import contextvars
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from queue import SimpleQueue
from types import FrameType

from opentelemetry import baggage, trace
from opentelemetry.context import Context, attach, detach

from ..events.tally import EMISSION_ERROR, REENTRANT, TALLY
from . import end as process_end

MAX_INNER = 32
"""Emissions that interrupt one emission, and are put off to its end."""
MAX_LATER = 2048
"""Emissions that wait for the thread that makes them, as many as a batch processor of the SDK takes."""
MAX_FRAMES = 40
"""Frames of the stack that are looked at: who holds a lock is near to what has interrupted it."""
SETTLE_SECONDS = 30.0
"""Seconds that a flush waits for emissions that were put off."""

Emit = Callable[[object, dict[str, object]], None]

_HOLDERS = tuple(
    os.sep + part.replace("/", os.sep)
    for part in (
        "opentelemetry/sdk/",
        "opentelemetry/attributes/",
        "opentelemetry/metrics/_internal/",
        "opentelemetry/util/_once.py",
        "opentelemetry_guard/delivery/",
        "opentelemetry_guard/exporters/",
        "opentelemetry_guard/queue/",
        "opentelemetry_guard/privacy/process.py",
        "opentelemetry_guard/events/tally.py",
    )
)
"""Parts of the names of source files that take a lock which an emission may want."""

_LOOP, _LOOPS = "run_forever", os.sep + os.path.join("asyncio", "base_events.py")
"""Function and source file of asyncio's event loops: what an asynchronous application does is called by it."""

_MAX_NAMES = 10_000
_harmless: set[str] = set()  # names of source files that are no holder's: one look for each frame, some 40 ns
_of_loops: set[str] = set()  # names of the source file of event loops, which is no holder's either


@dataclass(frozen=True, slots=True)
class _PutOff:
    kind: str
    context: contextvars.Context
    emit: Emit
    value: object
    fields: dict[str, object]


class _Here(threading.local):
    """What is known of this thread."""

    waiting: list[_PutOff] | None = None
    """What its emission has to make after itself; None outside of one."""
    loop: FrameType | None = None
    """Its event loop, below which nothing holds a lock."""


_here = _Here()
# Its `put` may be called in the midst of another `put`, which no other queue allows.
_later: SimpleQueue[_PutOff | _thread.LockType] = SimpleQueue()
_served = False  # whether a thread takes what is in `_later`


def emit(kind: str, emission: Emit, value: object, fields: dict[str, object]) -> None:
    """Call `emission` with `value` and `fields`, now or, where it would interrupt another, soon.

    Args:
        kind: of the row, ``events`` or ``metrics``, for the count of what is dropped.
        emission: emits; it doesn't raise.
        value: an event or a metric, None where `fields` are all of it.
        fields: of the event or metric; not changed by anybody else.
    """
    waiting = _here.waiting
    if waiting is None and not may_hold_lock(sys._getframe(2)):
        _emit_alone(emission, value, fields)
        return
    job = _PutOff(kind, contextvars.copy_context(), partial(_apart, emission), *_as_of_now(value, fields))
    if waiting is None:
        _hand_over(job)
    elif len(waiting) < MAX_INNER:
        waiting.append(job)
    else:
        _drop(kind)


def interrupts() -> bool:
    """Whether this code may have interrupted what holds a lock, so that it must not wait for one."""
    return _here.waiting is not None or may_hold_lock(sys._getframe(1))


def may_hold_lock(frame: FrameType | None) -> bool:
    """Whether code that may hold a lock which an emission wants is at work in `frame` or in what has called it."""
    harmless = _harmless
    for _ in range(MAX_FRAMES):
        if frame is None:
            return False
        if (name := frame.f_code.co_filename) not in harmless:
            if name in _of_loops:
                if frame.f_code.co_name == _LOOP:
                    return _is_below_holder(frame)
            elif _is_holder(name):
                return True
        frame = frame.f_back
    return False


def _is_below_holder(loop: FrameType) -> bool:
    """Whether what has called an event loop may hold a lock, which is looked at once as long as the loop runs.

    The frame of a function that runs has the callers that it had when it began. It is kept by this thread, so that no
    other can be taken for it; it holds the loop and little else.
    """
    if _here.loop is not loop:
        if may_hold_lock(loop.f_back):
            return True
        _here.loop = loop
    return False


def _is_holder(name: str) -> bool:
    if any(part in name for part in _HOLDERS):
        return True
    known = _of_loops if name.endswith(_LOOPS) else _harmless
    if len(known) >= _MAX_NAMES:
        known.clear()  # somebody compiles code under ever new names
    known.add(name)
    return False


def _emit_alone(emission: Emit, value: object, fields: dict[str, object]) -> None:
    waiting: list[_PutOff] = []
    _here.waiting = waiting
    done = 0
    try:
        emission(value, fields)
        while done < len(waiting):  # it grows
            done += 1
            inner = waiting[done - 1]
            inner.context.run(inner.emit, inner.value, inner.fields)
    finally:
        _here.waiting = None
        if waiting:
            # Came after the last look, or was left behind by what a signal's handler has raised.
            for late in waiting[done:]:
                _hand_over(late)


def _apart(emission: Emit, value: object, fields: dict[str, object]) -> None:
    """Emit in the trace that was interrupted, and not as a part of the SDK's work that was under way there.

    The SDK marks its context while it exports, and drops what is emitted within an export within an export.
    """
    context = trace.set_span_in_context(trace.get_current_span(), Context())
    for name, member in baggage.get_all().items():
        context = baggage.set_baggage(name, member, context)
    token = attach(context)
    try:
        emission(value, fields)
    finally:
        detach(token)


def _as_of_now(value: object, fields: dict[str, object]) -> tuple[object, dict[str, object]]:
    """Return what the emission is of, with the time and the contents that it has at this moment."""
    now = datetime.now(timezone.utc)
    try:
        if value is None or isinstance(value, Mapping):
            return None, {"timestamp": now, **(value or {}), **fields}
    except Exception:  # noqa: BLE001  a stranger's mapping may raise anything: the emission will say so
        return value, fields
    return value, fields


def _hand_over(job: _PutOff) -> None:
    global _served
    if not _served:
        _served = True
        try:
            # A bare thread: `Thread.start` takes a lock of the threading module, which may be what is interrupted.
            _thread.start_new_thread(_serve, (_later,))
        except RuntimeError:
            _served = False  # the interpreter ends, and gives no thread any more
    if _served and _later.qsize() < MAX_LATER:
        _later.put(job)
    else:
        _drop(job.kind)


def _serve(jobs: SimpleQueue[_PutOff | _thread.LockType]) -> None:
    while True:
        job = jobs.get()
        if not isinstance(job, _PutOff):
            job.release()
            continue
        try:
            job.context.run(_emit_alone, job.emit, job.value, job.fields)
        except BaseException:  # noqa: BLE001  a processor's SystemExit must not end what serves everybody
            TALLY.drop(job.kind, EMISSION_ERROR)


def _drop(kind: str) -> None:
    TALLY.emit(kind)
    TALLY.drop(kind, REENTRANT)


def settle() -> None:
    """Wait until what was put off before this call is emitted."""
    if _served:
        done = _thread.allocate_lock()
        done.acquire()
        _later.put(done)
        done.acquire(timeout=SETTLE_SECONDS)


process_end.on_end(settle, process_end.Stage.EMISSION)


def _after_fork_in_child() -> None:
    # What waits is the parent's to emit, whose thread does not exist here.
    global _later, _served
    _later, _served = SimpleQueue(), False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
