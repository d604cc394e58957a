"""What parts of dynamic rules a process doesn't enforce, in words, for the status report.

Whoever enforces rules holds an `Unenforced` as long as the rules are in force;
with it goes what it says.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable

from ..settings.once import log_once

_SAID = 20
"""Problems of one set of rules that are logged."""

_lock = threading.Lock()  # guards the replacement of the two below, which are read without it
_held: tuple[weakref.ref[Unenforced], ...] = ()
_watchers: tuple[weakref.WeakMethod[Callable[[], object]], ...] = ()  # the same


class Unenforced:
    """What of one set of rules is not enforced; logged once each, and in the status report while this object lives.

    Attributes:
        problems: the sentences.
    """

    __slots__ = ("__weakref__", "problems")

    def __init__(self, logger: logging.Logger, problems: Iterable[str]) -> None:
        """Report problems.

        Args:
            logger: where they are logged.
            problems: sentences that name the field, the value and the remedy.
        """
        global _held
        self.problems = tuple(problems)
        for problem in self.problems[:_SAID]:
            log_once(logger, logging.WARNING, f"dynamic rules: {problem}")
        if not self.problems:
            return
        with _lock:
            _held = (*(held for held in _held if held() is not None), weakref.ref(self))
        for watcher in _watchers:
            if (tell := watcher()) is not None:
                tell()


def watch(tell: Callable[[], object]) -> None:
    """Have a method called whenever something is not enforced, on any thread, for as long as its object lives."""
    global _watchers
    with _lock:
        _watchers = (*(watcher for watcher in _watchers if watcher() is not None), weakref.WeakMethod(tell))


def unenforced() -> tuple[str, ...]:
    """Return what is not enforced now, each sentence once."""
    living = (held() for held in _held)
    return tuple(dict.fromkeys(problem for one in living if one is not None for problem in one.problems))


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
