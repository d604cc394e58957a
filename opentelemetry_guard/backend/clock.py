"""Moments as somebody reads and writes them: in UTC, or in a time zone of theirs."""

from __future__ import annotations

from datetime import datetime, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

UTC = "UTC"
"""The zone of who has chosen none."""

_NOT_OFFERED = ("Etc/", "US/", "SystemV/", "posix/", "right/")


@lru_cache(maxsize=1)
def zones() -> tuple[str, ...]:
    """Return the names of time zones to choose from, UTC first; it alone where the system knows none."""
    places = (name for name in available_timezones() if "/" in name and not name.startswith(_NOT_OFFERED))
    return (UTC, *sorted(places))


_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0
"""The seconds from the year 1 to the year 9999, in UTC."""


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset(available_timezones())


class Clock:
    """Writes moments (Unix seconds) in a time zone, and reads what was written in it."""

    def __init__(self, name: str = UTC) -> None:
        """Take the zone by its name.

        Raises:
            ValueError: there is no such zone on this machine.
        """
        self.name = name
        self._zone: tzinfo = timezone.utc
        if name != UTC:
            if name not in _known():
                raise ValueError("not a time zone of this machine")
            self._zone = ZoneInfo(name)

    def day(self, moment: float) -> str:
        """Write the day: ``2026-01-31``."""
        return f"{self._at(moment):%Y-%m-%d}"

    def time(self, moment: float) -> str:
        """Write the time of day to the millisecond: ``14:30:05.123``."""
        return self._at(moment).time().isoformat("milliseconds")

    def text(self, moment: float) -> str:
        """Write a moment to the second: ``2026-01-31 14:30:05``."""
        return self._at(moment).replace(tzinfo=None).isoformat(" ", "seconds")

    def short(self, moment: float, with_day: bool) -> str:
        """Write a moment to the minute, as short as a chart needs it: ``31 Jan 14:30`` or ``14:30``."""
        return self._at(moment).strftime("%d %b %H:%M" if with_day else "%H:%M")

    def tick(self, moment: float, with_day: bool) -> str:
        """Write a place on a time axis: ``31 Jan`` or ``14:30``."""
        return self._at(moment).strftime("%d %b" if with_day else "%H:%M")

    def field(self, moment: float) -> str:
        """Write a moment as a form's field for a time has it: ``2026-01-31T14:30:05``."""
        return self._at(moment).replace(tzinfo=None).isoformat(timespec="seconds")

    def read(self, text: str) -> float:
        """Return the Unix seconds of a time in ISO 8601; one without an offset is in this zone.

        Raises:
            ValueError, OverflowError: it is none, or one that UTC has no year for.
        """
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=self._zone)).astimezone(timezone.utc).timestamp()

    def _at(self, moment: float) -> datetime:
        try:
            return datetime.fromtimestamp(moment, self._zone)
        except (OverflowError, ValueError):
            # The first and the last hours that there are in UTC lie beyond them in another zone, and so does the last
            # microsecond, which no float has.
            return datetime.fromtimestamp(min(max(moment, _FIRST), _LAST), timezone.utc)
