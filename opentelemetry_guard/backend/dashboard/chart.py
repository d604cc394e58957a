"""The overview's chart as geometry: stacked bars in a box of 1000 by 200, without any drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...events.names import name_of
from ..clock import Clock
from ..storage.histogram import Histogram
from ..storage.overview import OTHERS, Overview

WIDTH, HEIGHT = 1000.0, 200.0
_LABELS = 5
_DAY = 1440
_IN_UTC = Clock()


@dataclass(frozen=True, slots=True)
class Piece:
    """A rectangle of a bar; `series` numbers its colour."""

    series: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """A bar: where its place begins, its pieces from the bottom up, and what it says in words.

    `since` and `until` are its time as the events page is asked for it.
    """

    x: float
    pieces: Sequence[Piece]
    title: str
    time: str
    values: Sequence[str]
    since: str
    until: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn: `place` is the width of a column with its gap, `top` the value at the upper edge.

    `ticks` are the times below, `legend` names the series.
    """

    columns: Sequence[Column]
    place: float
    top: str
    middle: str
    ticks: Sequence[str]
    legend: Sequence[tuple[str, str, int]]
    """Of each series its number, its type, and how many events it has."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.legend


def chart_of(figures: Overview, clock: Clock) -> Chart:
    """Lay out the events per minute by type, with times as `clock` writes them."""
    with_day = figures.window.minutes > _DAY
    highest = max((sum(bar.rates.values()) for bar in figures.bars), default=0.0)
    top = nice_top(highest)
    series = {kind: "other" if kind == OTHERS else str(number) for number, (kind, _) in enumerate(figures.types)}
    place = WIDTH / len(figures.bars)
    columns = []
    for number, bar in enumerate(figures.bars):
        pieces, level = [], HEIGHT
        for kind in series:
            height = bar.rates.get(kind, 0.0) / top * HEIGHT
            if height:
                level -= height
                pieces.append(Piece(series[kind], round(level, 2), round(height, 2)))
        time = clock.short(bar.start, with_day)
        told = ", ".join(f"{name_of(kind)} {number_text(bar.rates[kind])}" for kind in series if bar.rates.get(kind))
        columns.append(
            Column(
                round(number * place, 2),
                pieces,
                f"{time}: {told or 'nothing'}",
                time,
                [number_text(bar.rates.get(kind, 0.0)) for kind in series],
                *_asked(bar.start, figures.window.bar_minutes * 60),
            )
        )
    return Chart(
        columns,
        round(place, 2),
        number_text(top),
        number_text(top / 2),
        [clock.tick(figures.bars[round(number * len(columns) / _LABELS)].start, with_day) for number in range(_LABELS)],
        [(series[kind], kind, count) for kind, count in figures.types],
    )


def histogram_of(counted: Histogram, clock: Clock) -> Chart:
    """Lay out how many events there were in each stretch of time."""
    top = nice_top(max(count for _, count in counted.bars))
    place = WIDTH / len(counted.bars)
    with_day = counted.seconds * len(counted.bars) > _DAY * 60
    columns = []
    for number, (start, count) in enumerate(counted.bars):
        height = count / top * HEIGHT
        pieces = [Piece("0", round(HEIGHT - height, 2), round(height, 2))] if count else []
        time, told = clock.short(start, with_day), f"{count:,}"
        asked = _asked(start, counted.seconds)
        columns.append(Column(round(number * place, 2), pieces, f"{time}: {told}", time, [told], *asked))
    ticks = min(_LABELS, len(columns))
    return Chart(
        columns,
        round(place, 2),
        number_text(top),
        number_text(top / 2),
        [clock.tick(counted.bars[number * len(columns) // ticks][0], with_day) for number in range(ticks)],
        [("0", "Events", counted.events)],
    )


def _asked(start: int, seconds: int) -> tuple[str, str]:
    """Return the beginning and the end of a bar as parameters, in UTC."""
    return _IN_UTC.field(start), _IN_UTC.field(start + seconds)


def nice_top(highest: float) -> float:
    """Return the next of 1, 2, 4, 5, 10, 20, 40, 50 ... that isn't below `highest`."""
    unit = 1.0
    while True:
        for step in (1, 2, 4, 5):
            if unit * step >= highest:
                return unit * step
        unit *= 10


def number_text(number: float) -> str:
    """Write a rate as short as it can be told."""
    if number >= 100 or number == int(number):
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 1 else f"{number:.2f}"
