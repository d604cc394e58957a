"""What this process uses, for the status report, as far as somebody above measures it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

_read: Callable[[], Mapping[str, float]] | None = None


def measured_by(read: Callable[[], Mapping[str, float]] | None) -> None:
    """Have `read` called, on any thread, for each status report; None: nothing is measured any more."""
    global _read
    _read = read


def usage() -> dict[str, float]:
    """Return the latest figures by name, none where nothing is measured; it never raises."""
    read = _read
    if read is None:
        return {}
    try:
        return dict(read())
    except Exception:  # noqa: BLE001  the operating system may refuse any reading; the report goes without
        return {}
