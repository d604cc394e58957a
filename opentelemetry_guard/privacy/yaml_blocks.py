"""Mask what stands below a sensitive name in YAML, in lines that are indented more than the name."""

from __future__ import annotations

import re

from ..settings.mask import MASK
from .sensitive_names import Names

_KEY = re.compile(
    r"^[ \t]*(?:- )?[\"']?(?P<name>[\w.$-]{1,128})[\"']?[ \t]*:[ \t]*(?:[|>][0-9+-]{0,2})?[ \t]*\r?\n",
    re.MULTILINE,
)
_LINE = re.compile(r"(?P<indent>[ \t]*)(?P<content>[^\r\n]*)(?:\r?\n|\Z)")


def mask_yaml_blocks(text: str, names: Names) -> str:
    """Return a text without the blocks below sensitive names; the same object where there are none."""
    if "\n" not in text or ":" not in text:
        return text
    parts: list[str] = []
    done = 0
    key = _KEY.search(text)
    while key is not None:
        end = key.end()
        if key["name"] in names:
            begin, end = _block(text, end, key.start("name") - key.start())
            if any(map(str.isalnum, text[begin:end])):
                parts += (text[done:begin], MASK)
                done = end
        key = _KEY.search(text, end)
    return "".join((*parts, text[done:])) if parts else text


def _block(text: str, position: int, column: int) -> tuple[int, int]:
    """Return where the content of the lines begins and ends that belong to a name in a column: deeper ones, a list."""
    begin = end = position
    while position < len(text) and (line := _LINE.match(text, position)):
        if line["content"]:
            indent = len(line["indent"])
            if indent < column or (indent == column and not line["content"].startswith("- ")):
                break
            begin = line.start("content") if begin == end else begin
            end = line.end("content")
        position = line.end()
    return begin, end
