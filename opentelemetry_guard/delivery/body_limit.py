"""How large a request's body may be, before compression: a setting, and what a destination has refused.

One answer of 413 is enough, for all processes of a queue: a size that a process has not seen taken is tried by one of
them at a time. The bound falls at once to what the answer names, to the largest body that was taken
lately, or to a quarter of the refused one; it is kept in a file beside the queue, for the other processes and the next
start, and doubles every day up to the setting, since a limit may be raised.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import orjson

from ..queue.locking import lock, unlock
from ..settings.delivery import MAX_BODY_BYTES

_logger = logging.getLogger(__name__)

LEAST = 16 * 1024
"""Bytes below which the bound falls only where the answer names it: what refuses so little has another reason, which
may pass. Batches are then halved."""
TRIAL_SECONDS = 60.0
"""Seconds after which a trial is not waited for: its answer takes too long, or a child of a fork keeps its lock."""
GROWTH_SECONDS = 86_400.0
"""Seconds after which the bound is twice as large, and what was refused may be tried again."""

# No symbolic link that somebody put there is followed.
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NAMED = re.compile(r"(?<![\w.])(\d{4,10}) ?bytes\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a refusal taught at a time (Unix seconds): bodies of `refused` bytes don't go, those below `bound` do."""

    bound: int
    refused: int
    at: float


class BodyLimit:
    """The bound of one destination's bodies. Any thread may call any method: what changes is replaced as a whole."""

    def __init__(
        self,
        most: int = MAX_BODY_BYTES,
        path: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Make a limit.

        Args:
            most: the setting; bodies stay below so many bytes.
            path: where a lesson is kept; None keeps it in this process.
            clock: returns Unix seconds.
        """
        self._most = most
        self._path = path
        self._clock = clock
        self._largest_taken = 0
        self._lesson: Lesson | None = None
        self._read_at: int | None = None  # the file's time of change
        self._trial: int | None = None  # the descriptor of the file whose lock stands for a trial of ours
        self.refresh()

    def refresh(self) -> None:
        """Read what another process has learned since the last time."""
        if self._path is None:
            return
        try:
            changed_at = self._path.stat().st_mtime_ns
            if changed_at != self._read_at:
                found = orjson.loads(self._path.read_bytes())
                bound, refused, at = int(found["bound"]), int(found["refused"]), float(found["at"])
                # Within reason, whatever is in the file; and a clock that was set back keeps the bound no longer.
                self._lesson = Lesson(max(1024, bound), max(LEAST, refused), min(at, self._clock()))
                self._read_at = changed_at
        except FileNotFoundError:
            pass
        except (OSError, ValueError, LookupError, TypeError, OverflowError) as error:
            _logger.debug("what was learned of the largest body can't be read: %s", error)

    @property
    def bound(self) -> int:
        """Bytes that a body of several rows stays below."""
        lesson = self._lesson
        return self._most if lesson is None else min(self._most, lesson.bound << self._periods_since(lesson))

    def refuses(self, size: int) -> bool:
        """Whether a body of `size` bytes would be refused, to go by the last refusal of less than a day ago."""
        lesson = self._lesson
        return lesson is not None and size >= lesson.refused and not self._periods_since(lesson)

    def has_taken(self, size: int) -> bool:
        """Whether a body of this size or more was taken since the last refusal of such a one."""
        return size <= self._largest_taken

    def may_try(self, size: int) -> bool:
        """Whether a body of `size` bytes may be sent, for all that other processes are trying now; `tried` ends it."""
        if self._path is None or size < LEAST or self.has_taken(size):
            return True
        path = self._path.with_name(f"{self._path.name}.trial")
        try:
            trial = os.open(path, os.O_RDWR | os.O_CREAT | _SAFELY, 0o600)
        except OSError as error:
            _logger.debug("it can't be told to other processes that a size is tried: %s", error)
            return True
        if (allowed := self._begin(trial, path)) is not None:
            os.close(trial)
            return allowed
        self._trial = trial
        self.refresh()
        return True

    def _begin(self, trial: int, path: Path) -> bool | None:
        """Take the lock that stands for a trial; where it is not ours, return whether a body may be sent all the same.

        The lock ends with whoever holds it, so that a process which is killed in a trial keeps nobody waiting. The file
        stays: who removed it would let two try at once.
        """
        try:
            if lock(trial):
                os.utime(path)
                return None
            # By the file system's own clock, as the other process had it; one that is ahead lets nothing go too early.
            return time.time() - os.fstat(trial).st_mtime > TRIAL_SECONDS
        except OSError as error:
            _logger.debug("it can't be told to other processes that a size is tried: %s", error)
            return True

    def tried(self) -> None:
        """Note that the body which `may_try` let pass was answered, or was not sent."""
        trial, self._trial = self._trial, None
        if trial is not None:
            try:
                unlock(trial)
            finally:
                os.close(trial)

    def taken(self, size: int) -> None:
        """Note that a body of `size` bytes was taken."""
        self._largest_taken = max(self._largest_taken, size)

    def refused(self, size: int, answer: str) -> None:
        """Learn from the refusal of a body of `size` bytes; `answer` may name the limit ("262144 bytes")."""
        if size <= self._largest_taken:
            self._largest_taken = 0
        named = max((number for text in _NAMED.findall(answer) if (number := int(text)) < size), default=0)
        bound = named or max(LEAST, size // 4, self._largest_taken)
        self._lesson = Lesson(min(bound, self.bound), max(LEAST, named + 1 if named else size), self._clock())
        self._keep(self._lesson)

    def _periods_since(self, lesson: Lesson) -> int:
        return min(32, max(0, int((self._clock() - lesson.at) / GROWTH_SECONDS)))

    def _keep(self, lesson: Lesson) -> None:
        if self._path is None:
            return
        draft = self._path.with_name(f"{self._path.name}.{uuid4().hex}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps({"bound": lesson.bound, "refused": lesson.refused, "at": lesson.at}))
            self._read_at = draft.stat().st_mtime_ns
            draft.replace(self._path)
        except OSError as error:
            _logger.debug("what was learned of the largest body can't be kept: %s", error)
            draft.unlink(missing_ok=True)
