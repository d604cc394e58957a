"""Find what documents hold under sensitive names: markup, multipart forms and YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .scanning import Span
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
_BOUNDARY = re.compile(r"\r?\n--|\Z")
_YAML_KEY = re.compile(
    r"^[ \t]*(?:- )?[\"']?(?P<name>[\w.$-]{1,128})[\"']?[ \t]*:[ \t]*(?:[|>][0-9+-]{0,2})?[ \t]*\r?\n",
    re.MULTILINE,
)
_YAML_LINE = re.compile(r"(?P<indent>[ \t]*)(?P<content>[^\r\n]*)(?:\r?\n|\Z)")


def form_fields(text: str, names: Names) -> Iterator[Span]:
    """Find the parts of a multipart form whose names are sensitive."""
    begin = 0
    for boundary in _BOUNDARY.finditer(text):
        end = boundary.start()
        blank = _BLANK_LINE.search(text, begin, end)
        head = text[begin : blank.start()] if blank else ""
        found = _FORM_FIELD.search(head) if blank and "form-data" in head else None
        if blank and found and found["name"] in names and not names.spares(found["name"], text[blank.end() : end]):
            yield blank.end(), end
        begin = boundary.end()


def elements(text: str, names: Names) -> Iterator[Span]:
    """Find what XML elements with sensitive names hold."""
    for found in _ELEMENT.finditer(text) if ">" in text else ():
        if found["name"] in names and not names.spares(found["name"], found["value"]):
            yield found.span("value")


def tags(text: str, names: Names) -> Iterator[Span]:
    """Find what a tag holds whose attributes name a secret: ``<input type="password" value="...">``."""
    for tag in _TAG.finditer(text) if "=" in text else ():
        yield from _secrets_of(tag, names)


def _secrets_of(tag: re.Match[str], names: Names) -> list[Span]:
    """Return where a tag's secrets begin and end, in their order."""
    held: list[Span] = []
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


def yaml_blocks(text: str, names: Names) -> Iterator[Span]:
    """Find what stands below a sensitive name in YAML, in lines that are indented more than the name."""
    key = _YAML_KEY.search(text) if ":" in text else None
    while key is not None:
        end = key.end()
        if key["name"] in names:
            begin, end = _block(text, end, key.start("name") - key.start())
            if any(map(str.isalnum, text[begin:end])):
                yield begin, end
        key = _YAML_KEY.search(text, end)


def _block(text: str, position: int, column: int) -> Span:
    """Return where the content of the lines begins and ends that belong to a name in a column: deeper ones, a list."""
    begin = end = position
    while position < len(text) and (line := _YAML_LINE.match(text, position)):
        if line["content"]:
            indent = len(line["indent"])
            if indent < column or (indent == column and not line["content"].startswith("- ")):
                break
            begin = line.start("content") if begin == end else begin
            end = line.end("content")
        position = line.end()
    return begin, end
