"""Values whose name stands beside them and not in front: ``{"name": "x-api-key", "value": "..."}``.

A label (``name``, ``key``, ``header``) says what ``value`` beside it is, and
the ``loc`` of a validation error what its ``input`` is, in either order.
pydantic's text of such an error (`pydantic_core.ValidationError.__str__`) has
the place in a line of its own, and the value in the next one::

    login.password
      String should have at least 12 characters [type=string_too_short, input_value='short', input_type=str]

It cuts a long value out of its middle, and the names in it with it, so that
what is left can't be cleaned by names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ..settings.mask import MASK
from .scanning import Span
from .sensitive_names import Names

VALUE_OF = {
    "name": "value",
    "key": "value",
    "header": "value",
    "field": "value",
    "param": "value",
    "parameter": "value",
    "variable": "value",
    "property": "value",
    "loc": "input",
}
"""Under which name the value stands that a label is about."""
ROLES = frozenset((*VALUE_OF, *VALUE_OF.values()))
"""Names, in small letters, that an announcement is made of."""

_QUOTE = r"\\{0,16}[\"']"
_LABEL = re.compile(rf"b?{_QUOTE}([^\"'\\\r\n]{{1,64}}){_QUOTE}|([\w.$\[\]-]{{1,64}})(?=[\s,;&}})]|\Z)")
_PLACE = re.compile(
    rf"[\[(]((?:\s{{0,4}}(?:{_QUOTE}[^\"'\\\r\n]{{1,128}}{_QUOTE}|[0-9]{{1,9}})(?:\s{{0,4}},)?){{1,32}})"
)
_NEXT = re.compile(r"\}\s{0,8},?\s{0,8}\{|\n[ \t]{0,64}- ")
"""What is between two objects of a list, in JSON or YAML."""
BOUNDARY = re.compile(r"[{}]|\n[ \t]{0,64}- ")
"""What may be where one object ends or another begins."""
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


def inputs(text: str, names: Names) -> Iterator[Span]:
    """Find the values of sensitive fields in the text of a validation error, and structures that it cut."""
    begin = 0
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
                yield value, value_end
            places = []
        begin = following


def _value_end(text: str, begin: int, line_end: int) -> int:
    end = text.rfind(_TYPE, begin, line_end)
    return end if end >= 0 else line_end


def _is_cut_structure(value: str) -> bool:
    return _CUT in value and value[:1] not in ("'", '"', "\\") and value != MASK


class Announcements:
    """What labels have said so far in a text that is read from its beginning to its end."""

    def __init__(self, text: str, names: Names) -> None:
        """Read `text`; its labels announce secrets where `names` has them."""
        self._text, self._names = text, names
        self._is_secret = {"value": False, "input": False}
        # Where the last label ended that no value has followed yet, and the last value that no label was in front of.
        self._open_label: dict[str, int] = {}
        self._unannounced: dict[str, re.Match[str]] = {}

    def see(self, pair: re.Match[str]) -> bool | re.Match[str]:
        """Take the next pair of a name and a value; the name is one of `ROLES`.

        Returns:
            Whether its value is a secret by what was announced; or the pair before it whose value it announces where
            both are in one object.
        """
        name = pair["name"].lower()
        if name in self._is_secret:
            label = self._open_label.pop(name, None)
            self._unannounced.pop(name, None)
            if label is None or BOUNDARY.search(self._text, label, pair.start()):
                self._unannounced[name] = pair
            if label is not None and _NEXT.search(self._text, label, pair.start()):
                self._is_secret[name] = False
            return self._is_secret[name]
        announced = VALUE_OF[name]
        self._is_secret[announced] = secret = self._announces_secret(pair.end(), name)
        self._open_label[announced] = pair.end()
        before = self._unannounced.pop(announced, None)
        return before if secret and before is not None else False

    def _announces_secret(self, position: int, name: str) -> bool:
        if name == "loc" and (place := _PLACE.match(self._text, position)):
            return is_secret_place((place[1],), self._names)
        label = _LABEL.match(self._text, position)
        return label is not None and (label[1] or label[2]) in self._names
