"""Mask what pydantic's and FastAPI's validation errors quote of a value under a sensitive name.

pydantic's text (`pydantic_core.ValidationError.__str__`) has the place of an
error in a line of its own, and the value in the next one::

    login.password
      String should have at least 12 characters [type=string_too_short, input_value='short', input_type=str]

It cuts a long value out of its middle, and the names in it with it, so that
what is left can't be cleaned by names. In `errors()`, and in the texts of
FastAPI's errors, which show that list, ``loc`` and ``input`` stand beside each
other; `announced` knows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..settings.mask import MASK
from .sensitive_names import Names

_NEW_LINE = re.compile(r"\r?\n|\\{1,16}n")
_INPUT = "input_value="
_TYPE = ", input_type="
_CUT = "..."
_PARTS = re.compile(r"[\w$-]+")
_LONGEST_PLACE = 512
"""Characters of a line that may be the place of an error."""


def is_secret_place(parts: Iterable[object], names: Names) -> bool:
    """Whether a ``loc`` goes through a sensitive name; its parts are names, and indices, and types of a union."""
    return any(
        isinstance(part, str)
        and (part in names or any(word in names for word in _PARTS.findall(part[:_LONGEST_PLACE])))
        for part in parts
    )


def mask_inputs(text: str, names: Names) -> str:
    """Return the text of a validation error without the values of sensitive fields, and without structures it cut."""
    if _INPUT not in text:
        return text
    parts: list[str] = []
    done = begin = 0
    places: list[str] = []
    while begin < len(text):
        new_line = _NEW_LINE.search(text, begin)
        end, following = new_line.span() if new_line else (len(text), len(text))
        value = text.find(_INPUT, begin, end)
        if value < 0:
            places.append(text[begin : min(end, begin + _LONGEST_PLACE)])
        else:
            value += len(_INPUT)
            value_end = _value_end(text, value, end)
            if is_secret_place(places, names) or _is_cut_structure(text[value:value_end]):
                parts += (text[done:value], MASK)
                done = value_end
            places = []
        begin = following
    return "".join((*parts, text[done:])) if parts else text


def _value_end(text: str, begin: int, line_end: int) -> int:
    end = text.rfind(_TYPE, begin, line_end)
    return end if end >= 0 else line_end


def _is_cut_structure(value: str) -> bool:
    return _CUT in value and value[:1] not in ("'", '"', "\\") and value != MASK
