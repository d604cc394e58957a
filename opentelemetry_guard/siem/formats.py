"""The formats by name: how an event becomes one line of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from .cef import cef
from .ecs import ecs
from .ocsf import ocsf


@dataclass(frozen=True, slots=True)
class Format:
    """How events are written: one line each. `suffix` and `media_type` are those of a file of such lines."""

    line: Callable[[Mapping[str, object]], bytes]
    """Returns an event's row as a line, in UTF-8 and without an end of line."""
    suffix: str
    media_type: str


def _json_of(mapped: Callable[[Mapping[str, object]], Mapping[str, object]]) -> Callable[[Mapping[str, object]], bytes]:
    return lambda row: orjson.dumps(mapped(row))


FORMATS: Mapping[str, Format] = {
    "ndjson": Format(orjson.dumps, "ndjson", "application/x-ndjson"),
    "ocsf": Format(_json_of(ocsf), "ocsf.ndjson", "application/x-ndjson"),
    "ecs": Format(_json_of(ecs), "ecs.ndjson", "application/x-ndjson"),
    "cef": Format(lambda row: cef(row).encode(errors="replace"), "cef.log", "text/plain; charset=utf-8"),
}
"""Every format; ``ndjson`` is the row as the backend gets it."""
