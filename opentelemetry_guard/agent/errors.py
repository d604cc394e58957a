"""What the agent raises, and how it tells the user's `on_error` hook of failures."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter

from ..settings.agent import ErrorHook
from ..settings.once import log_once

_logger = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between two calls for one stage: an outage fails many times a second."""

SEND, STATUS, RULES, EMISSION = "transport_send", "status", "rules", "emission"
"""The stages: a batch, a status report, a poll of the rules, an event or metric that can't be taken."""


class GuardAgentError(Exception):
    """The base of the agent's own errors.

    .. versionadded:: 1.0
    """


class BufferFullError(GuardAgentError):
    """There is no room for an event, and `buffer_overflow_policy` is ``raise``.

    .. versionadded:: 1.0
    """


class DeliveryError(GuardAgentError):
    """A call to the backend failed; nothing is lost by it. The text says why and holds no secret."""


class ErrorReporter:
    """Calls the user's hook, seldom enough, and survives it.

    `_lock` guards `_next` and `_unreported`; the hook is called outside of
    it. A failure that the hook itself causes is not reported to it.
    """

    def __init__(self, hook: ErrorHook | None) -> None:
        self._hook = hook
        self.reset()

    def reset(self) -> None:
        """Begin anew, in the child of a fork: the lock may have been held by a thread that does not exist here."""
        self._lock = threading.RLock()  # a signal's handler may send in the midst of a report
        self._next: dict[str, float] = {}
        self._unreported: Counter[str] = Counter()
        self._inside = threading.local()

    @property
    def wanted(self) -> bool:
        """Whether there is a hook."""
        return self._hook is not None

    def report(self, stage: str, error: BaseException, **context: object) -> None:
        """Tell the hook of a failure; `context` gets ``suppressed``, the failures since the last call."""
        hook = self._hook
        if hook is None or getattr(self._inside, "hook", False):
            return
        now = time.monotonic()
        with self._lock:
            if now < self._next.get(stage, 0.0):
                self._unreported[stage] += 1
                return
            self._next[stage] = now + PAUSE
            suppressed = self._unreported.pop(stage, 0)
        self._inside.hook = True
        try:
            hook(stage, error, {**context, "suppressed": suppressed})
        except Exception as failure:  # noqa: BLE001  the hook is anybody's code, and telemetry goes on
            log_once(
                _logger,
                logging.ERROR,
                f"AgentConfig.on_error raised {failure!r} for a failure of stage {stage}",
                cause="a failing on_error hook",
            )
        finally:
            self._inside.hook = False
