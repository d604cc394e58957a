"""The tables, for a terminal and as `docs/benchmarks.md`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from .running import STARTS, Figure, Table

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_PACKAGES = (
    "opentelemetry-guard",
    "guard-agent",
    "fastapi-guard",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-fastapi",
    "opentelemetry-exporter-otlp-proto-http",
    "sentry-sdk",
    "fastapi",
    "pydantic",
    "redis",
)


def lines(table: Table) -> Iterator[str]:
    """Yield a table's lines, in Markdown."""
    yield f"## {table.title}"
    yield ""
    if table.text:
        yield table.text
        yield ""
    yield "| figure | unit | " + " | ".join(table.columns.values()) + " | ratio | aim |"
    yield "|---|---|" + "---:|" * len(table.columns) + "---:|---|"
    for figure in table.figures:
        cells = [_number(figure.median(name)) if name in figure.values else "" for name in table.columns]
        ratio = figure.ratio()
        told = "" if ratio is None else f"{ratio:.2f}"
        yield f"| {figure.title} | {figure.unit} | " + " | ".join(cells) + f" | {told} | {figure.aim} |"
    yield ""


def document(tables: Sequence[Table], *, quick: bool) -> str:
    """Return the whole document."""
    text = [
        "# Benchmarks",
        "",
        "Written by `make bench`: this package and guard-agent, in turn on one machine, each in a process of its own,",
        "against one backend that accepts everything. CPU is that of the process (of the calling thread, where it says",
        "caller); what is counted in milliseconds or seconds of waiting is wall time. A figure is the median of its",
        "rounds, a ratio the median of the rounds' ratios: this package to guard-agent, unless a table says otherwise.",
        f"Processes are started {STARTS} times, since how one lies in memory alone makes some hundredths of its time.",
        "Less is better, but for events per second. Absolute figures are this machine's; ratios travel further.",
        "",
        *machine(),
        "",
    ]
    if quick:
        text += ["A short run (`make bench QUICK=1`), which spreads more than a whole one.", ""]
    for table in tables:
        text += lines(table)
    return "\n".join(text).rstrip() + "\n"


def machine() -> list[str]:
    """Return what the figures are of: the date, the machine and the versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    today = datetime.now(timezone.utc).date().isoformat()
    return [f"- {today}, {os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}", f"- {packages}"]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _number(value: float) -> str:
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def show(figures: Sequence[Figure]) -> None:
    """Print figures as they come in."""
    for figure in figures:
        told = "  ".join(f"{name} {_number(figure.median(name))}" for name in figure.values)
        ratio = figure.ratio()
        print(
            f"  {figure.title} ({figure.unit}): {told}" + ("" if ratio is None else f"  ratio {ratio:.2f}"), flush=True
        )
