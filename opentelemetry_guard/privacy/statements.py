"""Find secrets in command lines, in SQL, and in what database drivers say of it.

Each rule has a pattern for what stands in front of a value, and one for the
value; where the name in front is not sensitive, reading goes on behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..settings.mask import MASK, is_prose
from .scanning import Lookahead, Span, mask_spans
from .sensitive_names import Names

_VALUE = re.compile(r"\"(?P<double>[^\"\r\n]*)|'(?P<single>(?:[^'\r\n]|'')*)|(?P<word>[^\s\"',;)][^\s\"',;]*)")
_ARGUMENT = re.compile(r"\"(?P<double>[^\"\r\n]*)|'(?P<single>[^'\r\n]*)|(?P<word>[^\s\"'][^\s]*)")
_REST_OF_LINE = re.compile(r"(?P<rest>[^\r\n]+)")
_ROWS = re.compile(r"(?P<rows>(?:[^\r\n]+(?:\r?\n[ \t]*(?=[\"'(),]))?)+)")
_IN_BRACKETS = re.compile(r"(?P<closed>[^\r\n]*)(?=\))|(?P<cut>[^\r\n]+)")
_NO_SECRET = frozenset({"", "?", "%s", MASK})


class _Rule(NamedTuple):
    """What a text has in it in small letters; what stands in front of a value; the value; whether it is a secret."""

    sign: str
    opening: re.Pattern[str]
    value: re.Pattern[str]
    is_secret: Callable[[re.Match[str], str, Names], bool]


def _is_named(opening: re.Match[str], value: str, names: Names) -> bool:
    return opening["name"] in names and not is_prose(value)


def _is_announced(opening: re.Match[str], value: str, names: Names) -> bool:
    return not is_prose(value)


def _has_secret_column(opening: re.Match[str], value: str, names: Names) -> bool:
    return _has_secret(opening["columns"], names) and any(map(str.isalnum, value))


_RULES = (
    _Rule("--", re.compile(r"(?<![\w-])--(?P<name>[A-Za-z][\w.-]{0,63})[ \t]{1,8}(?!-)"), _ARGUMENT, _is_named),
    _Rule(
        "curl",
        re.compile(r"(?<=\s)(?:-u|--user|--proxy-user)[ =]{0,8}[\"']?[^\s:\"']{1,64}:(?!//)"),
        _ARGUMENT,
        _is_announced,
    ),
    _Rule(
        "dentified",
        re.compile(
            r"\bidentified\s{1,8}(?:with\s{1,8}\S{1,64}\s{1,8})?(?:by|as)\s{1,8}(?:password\s{1,8})?", re.IGNORECASE
        ),
        _VALUE,
        _is_announced,
    ),
    _Rule(
        "pass",
        re.compile(r"\b(?:password|passwd|passphrase)(?:\s{0,8}\(\s{0,8}|\s{1,8})(?=[\"'])", re.IGNORECASE),
        _VALUE,
        _is_announced,
    ),
    _Rule("key (", re.compile(r"\bKey \((?P<columns>[^()\r\n]{1,256})\)=\("), _IN_BRACKETS, _has_secret_column),
    _Rule(
        "values",
        re.compile(r"\((?P<columns>[^()]{1,1024})\)\s{0,64}values\s{0,64}(?=\([^)]{0,256}['\"])", re.IGNORECASE),
        _ROWS,
        _has_secret_column,
    ),
)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_PARAMETERS = re.compile(r"\[SQL: |(?P<given>\[parameters: |; args=|\bparams[:=] ?)(?=[(\[])")
_SQL = re.compile(r"\b(?:insert|update|select|delete|values|where|set)\b", re.IGNORECASE)
_DUPLICATE = re.compile(r"\bDuplicate entry '")
_FOR_KEY = re.compile(r"' for key [`']?([\w.$-]{1,128})")


def mask_statements(text: str, lower: str, names: Names) -> str:
    """Return a text without the secrets of its command lines and SQL; the same object where there are none.

    Args:
        text: the text.
        lower: the same, or what it was before other secrets were masked, in small letters.
        names: which names are sensitive.
    """
    for rule in _RULES:
        if rule.sign in lower:
            text = mask_spans(text, _values(rule, text, names))
    if "args=" in lower or "param" in lower:
        text = mask_spans(text, _parameters(text, names))
    return mask_spans(text, _duplicates(text, names)) if "duplicate entry '" in lower else text


def _has_secret(sql: str, names: Names) -> bool:
    return any(name[0] in names for name in _IDENTIFIER.finditer(sql))


def _values(rule: _Rule, text: str, names: Names) -> Iterator[Span]:
    opening = rule.opening.search(text)
    while opening is not None:
        end = opening.end()
        found = rule.value.match(text, end)
        kind = (found and found.lastgroup) or 0
        if found and found[kind] not in _NO_SECRET and rule.is_secret(opening, found[kind], names):
            yield found.span(kind)
            end = found.end(kind)
        opening = rule.opening.search(text, end)


def _parameters(text: str, names: Names) -> Iterator[Span]:
    """Find the positional parameters of statements that name a secret, as SQLAlchemy and Django show them."""
    done = statement = 0
    for found in _PARAMETERS.finditer(text):
        if found["given"] and found.start() >= done:
            sql = text[statement : found.start()]
            if _SQL.search(sql) and _has_secret(sql, names):
                # Only now, since it is read to its end, and not read again.
                line = _REST_OF_LINE.match(text, found.end() + 1)
                if line:
                    yield line.span()
                    done = line.end()
        statement = found.end()


def _duplicates(text: str, names: Names) -> Iterator[Span]:
    """Find the value that MySQL says is there already, by the key behind it."""
    done = 0
    ends = Lookahead(_FOR_KEY, text)
    while opening := _DUPLICATE.search(text, done):
        key = _FOR_KEY.match(text, done := ends.after(opening.end()))
        if key is None:
            break
        if any(part in names for part in key[1].split(".")):
            yield opening.end(), done
