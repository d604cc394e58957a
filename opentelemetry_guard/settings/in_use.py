"""What the Guard exporters of this process say of themselves, for floors of the house that don't know them.

Nothing is said, and nothing imported, where there is no exporter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .delivery import GuardConfig


class EventExporter:
    """Marks an exporter that delivers security events to a Guard backend."""


_sources: list[Callable[[], Iterable[GuardConfig]]] = []


def tell(source: Callable[[], Iterable[GuardConfig]]) -> None:
    """Have `source` asked for the settings by which security events are delivered at present."""
    _sources.append(source)


def event_deliveries() -> list[GuardConfig]:
    """Return the settings of the deliveries that get security events."""
    return [config for source in _sources for config in source()]
