"""Mask what markup and multipart forms hold under sensitive names."""

from __future__ import annotations

import re

from ..settings.mask import MASK
from .sensitive_names import Names

_ELEMENT = re.compile(
    r"<(?:[\w.-]{1,64}:)?(?P<name>[\w.-]{1,64})(?:\s[^<>]{0,512})?>(?P<value>(?:[^<]|<!\[CDATA\[(?s:.*?)(?:\]\]>|\Z))+)"
)
_TAG = re.compile(
    r"<[A-Za-z][\w:.-]{0,64}(?=\s)(?P<attributes>(?:[^<>\"']+|\"[^\"<]*\"|'[^'<]*')*(?:[\"'][^<]*)?)"
    r"(?:>(?P<text>[^<]*))?"
)
_ATTRIBUTE = re.compile(
    r"(?<![\w:.-])(?P<name>[\w:.-]{1,64})\s{0,8}=\s{0,8}"
    r"(?:\\{0,16}(?:\"(?P<double>[^\"\\]*)|'(?P<single>[^'\\]*))|(?P<bare>[^\s\"'>\\]+))"
)
_NAMING = frozenset({"name", "id", "key", "property", "http-equiv", "itemprop"})
"""Attributes that say what the value beside them is."""
_HOLDING = frozenset({"value", "content", "data-value"})
"""Attributes that hold it."""
_SECRET_KINDS = frozenset({"password", "current-password", "new-password", "one-time-code"})
"""What `type` and `autocomplete` of an input for a secret say."""
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


def mask_attributes(text: str, names: Names) -> str:
    """Mask what a tag holds whose attributes name a secret: ``<input type="password" value="...">``."""
    if "<" not in text or "=" not in text:
        return text
    parts: list[str] = []
    done = 0
    for tag in _TAG.finditer(text):
        for begin, end in _secrets_of(tag, names):
            parts += (text[done:begin], MASK)
            done = end
    return "".join((*parts, text[done:])) if parts else text


def _secrets_of(tag: re.Match[str], names: Names) -> list[tuple[int, int]]:
    """Return where a tag's secrets begin and end, in their order."""
    held: list[tuple[int, int]] = []
    is_secret = names_text = False
    for attribute in _ATTRIBUTE.finditer(tag.string, *tag.span("attributes")):
        name, kind = attribute["name"].lower(), attribute.lastgroup or "bare"
        value = attribute[kind]
        if name in _HOLDING:
            held.append(attribute.span(kind))
        elif name in _NAMING:
            is_secret = is_secret or value in names
            names_text = names_text or (name in ("name", "key") and value in names)
        elif name in ("type", "autocomplete"):
            is_secret = is_secret or value.lower() in _SECRET_KINDS
    if names_text and tag["text"] and not tag["attributes"].endswith("/"):
        held.append(tag.span("text"))
    return [span for span in held if any(map(str.isalnum, tag.string[slice(*span)]))] if is_secret else []
