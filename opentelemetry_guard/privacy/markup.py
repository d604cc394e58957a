"""Mask what markup and multipart forms hold under sensitive names."""

from __future__ import annotations

import re

from .mask import MASK
from .sensitive_names import Names

_ELEMENT = re.compile(
    r"<(?:[\w.-]{1,64}:)?(?P<name>[\w.-]{1,64})(?:\s[^<>]{0,512})?>(?P<value>(?:[^<]|<!\[CDATA\[(?s:.*?)(?:\]\]>|\Z))+)"
)
_FORM_FIELD = re.compile(r"\bname=\"?(?P<name>[^\"\r\n;]{1,64})")
_BLANK_LINE = re.compile(r"\r?\n\r?\n")
_BOUNDARY = re.compile(r"(\r?\n--)")


def mask_form_fields(text: str, names: Names) -> str:
    """Mask the parts of a multipart form whose names are sensitive."""
    if "form-data" not in text:
        return text
    parts = _BOUNDARY.split(text)
    for position, part in enumerate(parts):
        blank = _BLANK_LINE.search(part)
        head = part[: blank.start()] if blank else ""
        found = _FORM_FIELD.search(head) if blank and "form-data" in head else None
        if blank and found and found["name"] in names and not names.spares(found["name"], part[blank.end() :]):
            parts[position] = part[: blank.end()] + MASK
    return "".join(parts)


def mask_elements(text: str, names: Names) -> str:
    """Mask what XML elements with sensitive names hold."""
    if "<" not in text or ">" not in text:
        return text

    def masked(found: re.Match[str]) -> str:
        if found["name"] not in names or names.spares(found["name"], found["value"]):
            return found[0]
        return found[0][: found.start("value") - found.start()] + MASK

    return _ELEMENT.sub(masked, text)
