"""Fields that look like misspelled ones: they are sent as fields of one's own, and told once with the right name."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from difflib import get_close_matches

from ..settings.once import log_once

_logger = logging.getLogger(__name__)

_ALIKE = 0.82
"""How alike two names are, from 0 to 1 (Ratcliff and Obershelp), for one to be taken for a misspelling of the other."""
_MOST = 1_000
"""Names that are looked at; an application that makes more up names what it likes."""

_seen: set[str] = set()  # names are added whole, which needs no lock


def heed(name: str, fields: Iterable[str]) -> None:
    """Say once that `name`, which is none of `fields`, is close to one of them."""
    if name in _seen or len(_seen) >= _MOST:
        return
    _seen.add(name)
    if close := get_close_matches(name[:64], fields, 1, _ALIKE):
        log_once(
            _logger,
            logging.WARNING,
            f"an event has the field {name[:64]!r}, which is sent as a field of your own: did you mean {close[0]!r}?",
            cause=f"misspelled field {name[:64]}",
        )
