"""The blocks of code in the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support.backend import ROOT

_BLOCK = re.compile(
    r"(?:<!-- fragment: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```", re.M | re.S
)


class Block(NamedTuple):
    """A block of code, and its place among those of its page."""

    page: Path
    number: int
    language: str
    code: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield a page's blocks, without those that are marked as fragments."""
    for number, found in enumerate(_BLOCK.finditer(page.read_text())):
        if found["reason"] is None:
            yield Block(page, number, found["language"], found["code"])


def codes(page: str, *languages: str, under: str | None = None) -> list[str]:
    """Return the code of a page's blocks of these languages; with `under` those of the section with that title."""
    path = ROOT / page
    found = [block.code for block in blocks(path) if block.language in languages]
    if under is None:
        return found
    _, _, section = path.read_text().partition(f"\n## {under}\n")
    assert section, f"{page} has no section {under!r}"
    section = section.partition("\n## ")[0]
    return [code for code in found if code in section]
