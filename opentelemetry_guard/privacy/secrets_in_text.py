"""Find secrets in plain text by their shape or by the name in front of them, and mask them.

Every rule is linear in the text's length, since a client may send the text:
names and tokens are tried at the beginning of a word only, what was read for
one rule's match is not read for its next one, and what ends a match far away
is looked up in a `Lookahead`. Masked text holds nothing that a rule matches
again, and no sign by which a text is known to need a rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from ..settings.mask import MASK
from ..settings.tokens import mask_tokens
from .announced import inputs
from .cards import cards
from .documents import elements, form_fields, tags, yaml_blocks
from .named_values import named_values
from .scanning import Span, mask_spans
from .sensitive_names import Names
from .statements import mask_statements
from .url_passwords import url_passwords

__all__ = ["HASHED_ADDRESS", "MASK", "mask", "mask_path", "mask_query"]

_RULES: tuple[tuple[str, Callable[[str, Names], Iterable[Span]]], ...] = (
    ("<", elements),
    ("<", tags),
    ("form-data", form_fields),
    ("input_value=", inputs),
)
"""What a text has in it in small letters, and what finds the secrets of such a text."""


def mask(text: str, names: Names) -> str:
    """Return `text` without the secrets that are recognised in it; the same object where there are none.

    Recognised are tokens of well-known forms, credentials after ``Bearer``
    and ``Basic``, passwords in URLs, payment card numbers, and whatever
    follows a sensitive name as its value (``name=value``, ``name: value``,
    quoted or percent-encoded, XML elements, parts of a multipart form).
    """
    if len(text) < _SHORTEST:
        return text
    lower = text.lower()
    announces = _announces(lower)
    text = mask_tokens(text)
    if announces and ("//" in text or "%" in text):
        text = mask_spans(text, url_passwords(text))
    text = mask_spans(text, cards(text))
    if not announces:
        return text
    for sign, find in _RULES:
        if sign in lower:
            text = mask_spans(text, find(text, names))
    text = mask_statements(text, lower, names)
    if "\n" in lower:
        text = mask_spans(text, yaml_blocks(text, names))
    return mask_spans(text, named_values(text, names))


def _announces(lower: str) -> bool:
    """Whether a text, in small letters, has a sign in it that each announcement of a secret has.

    Most texts have none, and are spared all rules but those that know a secret by its own form.
    """
    return (
        "=" in lower
        or ":" in lower
        or "%" in lower
        or "<" in lower
        or "'" in lower
        or '"' in lower
        or "--" in lower
        or "dentified" in lower
        or "\uff1d" in lower
        or "\uff1a" in lower
    )


def mask_path(text: str, names: Names) -> str:
    """Return a URL or a path without the segments that look like keys.

    Those are long mixes of letters and digits that are no UUIDs, shorter ones that begin with ``sk-``, ``key_`` and
    the like, and what follows a segment with a sensitive name, as in ``/reset-password/k3vT9q``.
    """

    def masked(found: re.Match[str]) -> str:
        path, start, segment = found.string, found.start(), found[0]
        if HASHED_ADDRESS.fullmatch(segment):
            return segment
        if _is_varied(segment):
            before = path[path.rfind("/", 0, start - 1) + 1 : start - 1] if start > 1 else ""
            name = before if before in names else before.removesuffix("s")
            if (
                name in names
                and not names.spares(name, segment)
                and not (name == "tokens" and _SLUG.fullmatch(segment))
            ):
                return MASK
        return MASK if _looks_like_key(segment) else segment

    return _SEGMENT.sub(masked, text)


def mask_query(text: str, names: Names) -> str:
    """Return a URL, or a query alone, without the values of sensitive parameters.

    A value goes on to the next parameter: what writes URLs into telemetry may have decoded it, so that blanks and
    quotes don't end it, and what has no name may be a value's rest.
    """
    before, mark, query = text.partition("?")
    if not mark:
        if text[:1] == "/" or "://" in text:
            return text
        before, query = "", text
    parameters = query.split("&")
    rest_of_secret = False
    for position, parameter in enumerate(parameters):
        name, separator, value = parameter.partition("=")
        if separator:
            rest_of_secret = name in names and any(map(str.isalnum, value)) and not names.spares(name, value)
            if rest_of_secret:
                parameters[position] = f"{name}={MASK}"
        elif rest_of_secret and parameter:
            parameters[position] = MASK
    return f"{before}{mark}{'&'.join(parameters)}"


_SHORTEST = 5
"""Characters of the shortest secret together with its name, ``pw=1``."""
_KEY_LENGTH = 20
_SEGMENT = re.compile(r"(?<=/)[A-Za-z0-9_.~-]{6,}")
_ANNOUNCED = re.compile(
    r"(?:[spar]k|key|token|secret|api[_-]?(?:key|token|secret))[_.-].*(?:[A-Za-z]{2}[0-9]|[0-9][A-Za-z]{2})",
    re.IGNORECASE,
)
_SHORTEST_ANNOUNCED = 10
_SLUG = re.compile(r"[a-z]{2,20}(?:-[a-z]{2,20}){1,8}(?:-[a-z0-9]{1,8})?|[a-z]{2,20}-[0-9]{1,4}")
"""What names a thing in a list of tokens that are no secrets, such as currencies: words and a number behind them."""
_PIECE = re.compile(r"[A-Za-z0-9]+")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
HASHED_ADDRESS = re.compile(r"ip-hmac-[0-9a-f]{32}")
"""A client's address under a key (`hashed_addresses`), which is no secret."""
_TURN = re.compile(r"[0-9](?=[A-Za-z])|[A-Za-z](?=[0-9])")


def _is_varied(segment: str) -> bool:
    """Whether letters and digits, or capitals and small letters, are mixed: neither a word nor a number is."""
    if segment.lower() != segment != segment.upper():
        return True
    return any(map(str.isdigit, segment)) and any(map(str.isalpha, segment))


def _looks_like_key(segment: str) -> bool:
    if _UUID.fullmatch(segment):
        return False
    if len(segment) >= _SHORTEST_ANNOUNCED and _ANNOUNCED.match(segment):
        return True
    mixed = [piece for piece in _PIECE.findall(segment) if _TURN.search(piece)] if len(segment) >= _KEY_LENGTH else []
    turns = sum(len(_TURN.findall(piece)) for piece in mixed)
    return sum(map(len, mixed)) >= _KEY_LENGTH and turns >= 4
