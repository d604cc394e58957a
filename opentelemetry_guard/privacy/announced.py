"""Values whose name stands beside them and not in front: ``{"name": "x-api-key", "value": "..."}``.

A label (``name``, ``key``, ``header``) says what ``value`` beside it is, and
the ``loc`` of a validation error what its ``input`` is, in either order.
"""

from __future__ import annotations

import re

from .sensitive_names import Names
from .validation_errors import is_secret_place

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
