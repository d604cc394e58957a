"""Find the values of sensitive names in a text (``name=value``, ``name: value``, ``"name": "value"``).

The text is read once from its beginning to its end: a name is looked at where
it begins, and reading goes on behind the value that was found for it, so that
no character is read again for a later name; a value that a label behind it
announces is read once more. What ends a value far away is
looked up in `Lookahead`, and runs of backslashes and of ``25`` in front of a
quote are bounded.
"""

from __future__ import annotations

import re
from functools import cache

from ..settings.mask import MASK, is_prose
from ..settings.tokens import BLANK
from .announced import BOUNDARY, ROLES, Announcements
from .scanning import Lookahead, Span
from .sensitive_names import Names, canonical

_ENCODED_DELIMITER = r"(?:25)*(?:3[ABDFabdf]|2[02367Ccf8F9]|0[ADad])"
_AFTER = r"(?:3[ABDFabdf]|2[02367Ccf8F9]|0[ADad])"
# Wide, mathematical and invisible letters too: what reads like a name may be taken for it.
_ODD = "\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff3f\u00ad\u200b-\u200d\u2060\ufeff\U0001d400-\U0001d7ff"
_LETTERS = rf"A-Za-z0-9_.\[\]${_ODD}-"
_ENCODED = rf"%(?!{_ENCODED_DELIMITER})[0-9A-Fa-f]{{2}}"
_QUOTE = r"\\{0,16}[\"']"
_ENCODED_QUOTE = r"%(?:25){0,8}2[27]"
_PAIR = re.compile(
    rf"(?:(?<![{_LETTERS}%])|(?<=%{_AFTER})|(?<=%25{_AFTER}))"
    # A name is read to its end; the check behind it spares trying its beginnings.
    rf"(?P<name>(?:[{_LETTERS}]|{_ENCODED})[{_LETTERS}]*(?:{_ENCODED}[{_LETTERS}]*)*)(?![{_LETTERS}])"
    rf"(?P<closing>{_QUOTE}|{_ENCODED_QUOTE})?"
    r"[ \t]*(?P<separator>[=:]?=>?|[:,\uff1d\uff1a]|%(?:25){0,8}3[ADEade])"
    r"(?:[ \t]|%20|\\[trn])*"
)
_PLAIN_PAIR = re.compile(
    rf"(?<![{_LETTERS}])(?P<name>[{_LETTERS}]+)(?![{_LETTERS}])(?P<closing>{_QUOTE})?"
    r"[ \t]*(?P<separator>[=:]?=>?|[:,\uff1d\uff1a])(?:[ \t]|\\[trn])*"
)
"""The same for a text without percent signs, which takes half the time."""
_OPENING = re.compile(rf"b?({_QUOTE})")
_ENCODED_QUOTED = re.compile(rf"(?P<quote>{_ENCODED_QUOTE})(?P<value>[^\s&\"']*?)(?=(?P=quote)|[\s&\"']|\Z)")
_QUOTE_WITHIN = r"[\"'](?=[^\s,;:)\]}>&\\\"'])"
"""A quote that does not end anything: it is part of a value that began without one."""
_SCHEME = rf"(?:(?:Bearer|Basic|Digest|Token|ApiKey|Negotiate){BLANK})?"
_WORD = rf"(?=[^\s&])[^\s&\"']*(?:{_QUOTE_WITHIN}[^\s&\"']*)*"
_PARAMETER = re.compile(_SCHEME + _WORD, re.IGNORECASE)
_CLAUSE = re.compile(rf"{_WORD}(?:(?<![,;])[ \t]+[^\s,;&\"'=:]+={{0,2}}(?=[\s,;&\"']|\Z))*")
_LINE = re.compile(r"(?:[^\r\n\\]|\\(?![rn]))+")
_STRUCTURE = re.compile(r"(?P<opening>[\[{(])|(?P<closing>[\])}])|\"[^\"\\\r\n]*\"|'[^'\\\r\n]*'|[^\[\]{}()\"'\\]+")
"""A piece of a list or an object; a backslash is none, since what it does depends on how often all was encoded."""
_NUMBER = re.compile(r"-?[0-9][0-9.eE+-]{0,63}(?=[\s,})\]]|\Z)")
_NAME = re.compile(rf"[A-Za-z_][\w-]{{0,63}}{_QUOTE}\s{{0,4}}(?::|=>)")
_FORM_END = re.compile(r"[&?\r\n]")
_NEXT_PARAMETER = re.compile(r"&[A-Za-z0-9_.\[\]%-]{1,64}=")
_WHOLE_LINE = frozenset({"authorization", "proxyauthorization", "cookie", "setcookie"})
"""Headers whose value holds blanks, quotes, commas and semicolons."""
_DETECTION = re.compile(r"(?:Value matched|Semantic attack|Pattern exceeded|Threat detected)\b")
"""How guard-core goes on after the name of the field in which it found something."""
_CONVERTOR = re.compile(r"(?:str|path|int|float|uuid)\}")
"""How a parameter in the template of a route ends: ``/files/{secret:path}``."""


def named_values(text: str, names: Names) -> list[Span]:
    """Find the values that follow sensitive names in a text, ordered by where they begin."""
    if not _may_hold_pair(text):
        return []
    pattern = _PAIR if "%" in text else _PLAIN_PAIR
    spans: list[Span] = []
    values, values_before, announcements = _Values(text), _Values(text), Announcements(text, names)
    pair = pattern.search(text)
    while pair is not None:
        end = pair.end()
        name = pair["name"]
        announced = announcements.see(pair) if name.lower() in ROLES else False
        if isinstance(announced, re.Match):
            value = values_before.of(announced)
            if value and (value[1] > pair.start() or not BOUNDARY.search(text, value[1], pair.start())):
                end = max(end, _add(spans, text, value, announced, names))
        elif announced or name in names:
            value = values.of(pair)
            end = _add(spans, text, value, pair, names) if value else end
        pair = pattern.search(text, end)
    return sorted(spans)


def _add(spans: list[Span], text: str, value: Span, pair: re.Match[str], names: Names) -> int:
    """Add where the value of a pair is if it is a secret; return where it ends."""
    written = text[value[0] : value[1]]
    if written != MASK and _is_secret(written, pair["separator"]) and not names.spares(pair["name"], written):
        spans.append(value)
    return value[1]


def _may_hold_pair(text: str) -> bool:
    """Whether anything separates a name from a value."""
    if "=" in text or ":" in text or "%" in text or ("," in text and ("'" in text or '"' in text)):
        return True
    return not text.isascii() and ("\uff1d" in text or "\uff1a" in text)


def _is_secret(value: str, separator: str) -> bool:
    # Signs are no secret, and "invalid token: expired" is a sentence.
    return any(map(str.isalnum, value)) and not (separator == ":" and is_prose(value))


class _Values:
    """Finds the values of names in one text; the names have to come in the text's order."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._form_end = Lookahead(_FORM_END, text)

    def of(self, pair: re.Match[str]) -> Span | None:
        """Return where the value of a name begins and ends, None where none follows; all of it has been read then."""
        text, position, separator, closing = self._text, pair.end(), pair["separator"], pair["closing"]
        opening = _OPENING.match(text, position)
        if separator == ",":
            # Only two quoted strings are a pair, where the second one is no name: a comma in a sentence means nothing.
            if not closing or not opening or _NAME.match(text, opening.end()):
                return None
            return self._quoted(opening)
        if not opening and _is_whole_line(pair["name"], separator):
            return self._matched(_LINE, position)
        if separator == "=" and (form := self._form_value(position)):
            return form
        if opening:
            return self._quoted(opening)
        if text[position : position + 1] in ("{", "["):
            # What was masked before stays masked, together with what stands directly behind it.
            return self._matched(_PARAMETER, position) if text.startswith(MASK, position) else self._structure(position)
        if separator[0] == "%":
            quoted = _ENCODED_QUOTED.match(text, position) if closing else None
            return (
                quoted.span("value") if quoted else self._matched(_encoded_parameter(separator.count("25")), position)
            )
        if closing and (number := _NUMBER.match(text, position)):
            return number.span()
        if separator == ":":
            is_none = _DETECTION if closing else _CONVERTOR
            return None if is_none.match(text, position) else self._matched(_CLAUSE, position)
        return self._matched(_PARAMETER, position)

    def _matched(self, pattern: re.Pattern[str], position: int) -> Span | None:
        found = pattern.match(self._text, position)
        return found.span() if found else None

    def _quoted(self, opening: re.Match[str]) -> Span:
        """Return what is between a quote and the next one like it that closes, or the end of the text.

        A quote in front of a letter, or of the same quote, is part of the value, and so is one behind a backslash.
        """
        text, quote, begin = self._text, opening[1], opening.end()
        end = text.find(quote, begin)
        while end >= 0:
            after = end + len(quote)
            follows = text[after : after + 1]
            continues = (follows.isascii() and follows.isalnum()) or text.startswith(quote, after)
            if not continues and text[end - 1] != "\\":
                return begin, end
            end = text.find(quote, end + 1)
        return begin, len(text)

    def _structure(self, position: int) -> Span:
        """Return a list or an object: to its last bracket, or where none is to be found to the end of a line."""
        text, depth, end = self._text, 0, position
        while token := _STRUCTURE.match(text, end):
            end = token.end()
            depth += (token.lastgroup == "opening") - (token.lastgroup == "closing")
            if depth == 0:
                return position, end
        line = _LINE.match(text, end)
        return position, line.end() if line else end

    def _form_value(self, position: int) -> Span | None:
        """Return a value of a form or a query that was not encoded, or not any more: all up to the next parameter."""
        end = self._form_end.after(position)
        return (position, end) if end > position and _NEXT_PARAMETER.match(self._text, end) else None


def _is_whole_line(name: str, separator: str) -> bool:
    found = canonical(name)
    return found in _WHOLE_LINE or (separator == ":" and found.endswith(("authorization", "cookie")))


@cache
def _encoded_parameter(level: int) -> re.Pattern[str]:
    """Return the pattern of a value in a query that was percent-encoded once more than `level` (0 to 8) times."""
    ampersand = rf"%(?:25){{0,{level}}}26"
    return re.compile(rf"(?:[^\s&\"'%]+|{_QUOTE_WITHIN}|%(?!{ampersand[1:]}))+")
