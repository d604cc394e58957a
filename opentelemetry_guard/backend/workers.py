"""Several processes that serve one socket: started, started again when they die or hang, replaced, ended together.

The socket is opened once and handed down, so that connections which wait to be accepted outlive a process. Each worker
has a line to this process as its standard input: by it the worker tells that it listens, and then again and again that
its event loop runs. It ends when the line does, however this process came to its end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

logger = logging.getLogger(__name__)

_END_SECONDS = 12.0
"""How long workers may take to end: they finish what is under way, and their threads theirs."""

_AGAIN_SECONDS = 1.0
"""Seconds from the start of a worker that died to the start of the next one, at least."""

_FAILED_SECONDS = 5.0
"""The same where it never listened: the database may be gone for a while."""

USUAL_TIMEOUT = 30.0
"""Seconds of silence after which a worker is taken to hang, unless told otherwise: as long as gunicorn waits."""

_LOOKS = 6
"""How often this process looks, in the time that a worker may be silent, whether it was heard of since the last look.

Silence is counted in these looks and not by a clock: while the machine sleeps, or this process is stopped, there are
none, and what the workers said in between is read before the next one.
"""


def tell_of_listening(timeout: float) -> None:
    """Tell the process that started this worker that it listens, and from then on that its event loop runs.

    To be called on the event loop.

    Args:
        timeout: seconds of silence after which that process takes this one to hang; 0 is never, and nothing is told.
    """
    line, loop = socket.socket(fileno=os.dup(0)), asyncio.get_running_loop()

    def tell(said: bytes) -> None:
        # Who doesn't read is stopped itself, and has enough to read; who is gone ends this process another way.
        with suppress(BlockingIOError, ConnectionError):
            line.send(said, socket.MSG_DONTWAIT)
        if timeout:
            loop.call_later(timeout / _LOOKS, tell, b".")

    tell(b"listening")


@dataclass(eq=False, slots=True)
class _Worker:
    """A process; `replaces` is the one that ends when this one listens, `silent` are looks since it was heard of."""

    process: subprocess.Popen[bytes]
    line: socket.socket
    started_at: float
    replaces: _Worker | None = None
    listens: bool = False
    leaving: bool = False
    silent: int = 0
    hangs: bool = False


class Workers:
    """Keeps a number of workers running. To be used on the main thread, once."""

    def __init__(
        self,
        command: Sequence[str],
        listener: socket.socket,
        number: int,
        on_listening: Callable[[], None],
        timeout: float = USUAL_TIMEOUT,
    ) -> None:
        """Take what is to run.

        Args:
            command: starts a worker, which serves the socket that has the number of `listener` there, too.
            listener: the bound socket.
            number: how many workers.
            on_listening: called once, when all of them listen.
            timeout: seconds after which a worker that has told that it listens, and is silent since, is killed and
                replaced; 0 is never.
        """
        self._command, self._listener, self._number = command, listener, number
        self._on_listening: Callable[[], None] | None = on_listening
        self._running: list[_Worker] = []
        # When workers are to be started in the place of dead ones, in monotonic seconds.
        self._due: list[float] = []
        # Who is to be replaced, one after the other.
        self._outdated: deque[_Worker] = deque()
        self._signals: deque[int] = deque()
        self._ends_at: float | None = None
        self._timeout = timeout
        self._looks_at: float | None = None
        self._failed = False
        self._selector = selectors.DefaultSelector()

    def run(self) -> bool:
        """Run workers until SIGTERM or SIGINT; False where one could not start at the beginning.

        SIGHUP replaces them one by one, each when the next one listens; where a terminal is closed, it ends them.
        """
        with self._selector, self._signals_noted():
            self._due = [time.monotonic()] * self._number
            self._plan_look()
            while self._running or self._ends_at is None:
                self._start_due()
                for key, _ in self._selector.select(self._pause()):
                    if key.data is None:
                        self._obey()
                    else:
                        self._hear(key.data)
                self._look()
                self._insist()
        return not self._failed

    def _pause(self) -> float | None:
        moments = [*self._due, *(moment for moment in (self._looks_at, self._ends_at) if moment is not None)]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _start_due(self) -> None:
        now = time.monotonic()
        ready = [moment for moment in self._due if moment <= now]
        self._due = [moment for moment in self._due if moment > now]
        for _ in ready:
            self._start()

    def _start(self, replaces: _Worker | None = None) -> None:
        ours, its = socket.socketpair()
        with its:
            process = subprocess.Popen(  # noqa: S603 - our own command
                self._command,
                stdin=its.fileno(),
                pass_fds=(self._listener.fileno(),),
                # A session of its own: Ctrl+C is for this process, which tells the workers.
                start_new_session=True,
            )
        worker = _Worker(process, ours, time.monotonic(), replaces)
        self._running.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _hear(self, worker: _Worker) -> None:
        """Take what a worker says, or its end."""
        try:
            said = worker.line.recv(1024)
        except ConnectionError:
            said = b""
        if not said:
            self._ended(worker)
            return
        worker.silent = 0
        if worker.listens:
            return
        worker.listens = True
        if worker.replaces is not None:
            self._retire(worker.replaces)
        elif self._on_listening is not None and sum(one.listens for one in self._running) == self._number:
            self._on_listening()
            self._on_listening = None

    def _ended(self, worker: _Worker) -> None:
        self._selector.unregister(worker.line)
        worker.line.close()
        self._running.remove(worker)
        code = worker.process.wait()
        if self._ends_at is not None:
            return
        if worker.leaving:
            self._replace_next()
        elif worker.replaces is not None and not worker.listens:
            logger.error("A new worker ended with %s before it listened: the others go on as they are.", code)
            self._outdated.clear()
        elif self._on_listening is not None:
            self._failed = True
            self._end()
        else:
            self._restart(worker, code)

    def _restart(self, worker: _Worker, code: int) -> None:
        for other in self._running:
            if other.replaces is worker:
                # It takes the place anyway.
                other.replaces = None
                return
        if not worker.hangs:
            logger.warning("Worker %s ended with %s: another one is started.", worker.process.pid, code)
        pause = _AGAIN_SECONDS if worker.listens else _FAILED_SECONDS
        self._due.append(worker.started_at + pause)

    def _retire(self, worker: _Worker) -> None:
        worker.leaving = True
        worker.process.terminate()

    def _plan_look(self) -> None:
        if self._timeout:
            self._looks_at = time.monotonic() + self._timeout / _LOOKS

    def _look(self) -> None:
        """Kill who hangs, when it is time to look; its place is taken when its line ends."""
        if self._looks_at is None or time.monotonic() < self._looks_at:
            return
        self._plan_look()
        for worker in self._running:
            worker.silent += worker.listens
            if worker.silent > _LOOKS and not worker.hangs:
                worker.hangs = True
                told = "Worker %s has not answered for %g seconds: it is killed, and another one takes its place."
                logger.error(told, worker.process.pid, self._timeout)
                worker.process.kill()

    def _replace_next(self) -> None:
        while self._outdated:
            worker = self._outdated.popleft()
            if worker in self._running:
                self._start(replaces=worker)
                return

    def _obey(self) -> None:
        """Do what signals have asked for."""
        self._woken.recv(1024)
        while self._signals:
            number = self._signals.popleft()
            if number != signal.SIGHUP or os.isatty(0):
                self._end()
            elif not self._outdated and self._ends_at is None:
                self._outdated.extend(one for one in self._running if one.listens and not one.leaving)
                self._replace_next()

    def _end(self) -> None:
        if self._ends_at is None:
            self._ends_at = time.monotonic() + _END_SECONDS
            self._due.clear()
            for worker in self._running:
                self._retire(worker)

    def _insist(self) -> None:
        """Kill who has had time to end."""
        if self._ends_at is not None and time.monotonic() > self._ends_at:
            self._ends_at += _END_SECONDS
            for worker in self._running:
                worker.process.kill()

    @contextmanager
    def _signals_noted(self) -> Iterator[None]:
        """Have signals wake the loop, which obeys them."""
        self._woken, waking = socket.socketpair()
        with self._woken, waking:
            waking.setblocking(False)
            self._selector.register(self._woken, selectors.EVENT_READ)
            former = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
            numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
            handlers = {number: signal.signal(number, self._note) for number in numbers}
            try:
                yield
            finally:
                signal.set_wakeup_fd(former)
                for number, handler in handlers.items():
                    signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)
