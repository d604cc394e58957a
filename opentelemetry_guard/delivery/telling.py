"""The words about a backend that is away: one line when it begins, one when it is over."""

from __future__ import annotations

import logging

_logger = logging.getLogger(__name__)

QUIET_SECONDS = 60.0
"""Seconds after such a line in which no further trouble is told: who comes and goes must not fill a log."""


class Telling:
    """Tells of the routes that carry rows to one destination. One thread calls it; times are monotonic seconds."""

    def __init__(self, whose: str) -> None:
        """Make one; `whose` is what the backend is called."""
        self._whose = whose
        self._route: str | None = None
        self._quiet_until = float("-inf")

    def failed(self, route: str, why: str, now: float) -> None:
        """Note that a request failed in a way that may pass."""
        if self._route is None and now >= self._quiet_until:
            self._route = route
            _logger.warning(
                "the %s backend can't be used now, for %s (%s). Rows are kept, and sent when it is back",
                self._whose,
                route,
                why,
            )

    def refused(self, route: str) -> None:
        """Note that a refusal was said, whose end is to be said as well."""
        if self._route is None:
            self._route = route

    def succeeded(self, route: str, now: float) -> None:
        """Note that the backend has taken rows."""
        if self._route == route:
            self._route = None
            self._quiet_until = now + QUIET_SECONDS
            # A warning as well: where no logging is set up, less reaches nobody, who would take the trouble to go on.
            _logger.warning("the %s backend takes %s again", self._whose, route)
