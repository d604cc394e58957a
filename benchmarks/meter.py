"""How much CPU time a backend and its database use, whoever else uses the machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def postmaster(directory: Path) -> int:
    """Return the number of the PostgreSQL server's process whose directory is `directory` (`support.postgresql`)."""
    return int((directory / "data" / "postmaster.pid").read_text().splitlines()[0])


def cpu_of(parents: Sequence[int]) -> float:
    """Return the seconds of CPU time that some processes and their children have used, the ended ones included."""
    used = 0
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, fields = int(entry.parent.name), entry.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if number in parents or int(fields[1]) in parents:
            # What a process's children have used that have ended, itself has.
            used += sum(map(int, fields[11:15] if number in parents else fields[11:13]))
    return used / _TICKS
