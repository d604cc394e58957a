"""Find secrets in plain text by their shape or by the name in front of them, and mask them.

Every rule is linear in the text's length, since a client may send the text:
names and tokens are tried at the beginning of a word only, what was read for
one rule's match is not read for its next one, and what ends a match far away
is looked up in `lookahead`. Masked text holds nothing that a rule matches
again.
"""

from __future__ import annotations

import re

from .markup import mask_elements, mask_form_fields
from .mask import MASK
from .named_values import mask_named_values
from .sensitive_names import Names
from .tokens import mask_tokens
from .url_passwords import mask_url_passwords
from .validation_errors import mask_inputs

__all__ = ["HASHED_ADDRESS", "MASK", "is_card_number", "mask", "mask_path", "mask_query"]


def mask(text: str, names: Names) -> str:
    """Return `text` without the secrets that are recognised in it; the same object where there are none.

    Recognised are tokens of well-known forms, credentials after ``Bearer``
    and ``Basic``, passwords in URLs, payment card numbers, and whatever
    follows a sensitive name as its value (``name=value``, ``name: value``,
    quoted or percent-encoded, XML elements, parts of a multipart form).
    """
    if len(text) < _SHORTEST:
        return text
    text = mask_tokens(text)
    text = mask_url_passwords(text)
    if _MAY_BE_CARD.search(text):
        text = _mask_cards(text)
    text = mask_elements(text, names)
    text = mask_form_fields(text, names)
    text = mask_inputs(text, names)
    return mask_named_values(text, names)


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
            if before in names or before.removesuffix("s") in names:
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
            rest_of_secret = name in names and any(map(str.isalnum, value))
            if rest_of_secret:
                parameters[position] = f"{name}={MASK}"
        elif rest_of_secret and parameter:
            parameters[position] = MASK
    return f"{before}{mark}{'&'.join(parameters)}"


_SHORTEST = 5
"""Characters of the shortest secret together with its name, ``pw=1``."""
_MAY_BE_CARD = re.compile(r"[0-9]{3}(?:(?:[ +-]|%20)?[0-9]){10}")
_DIGITS = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"  # a UUID: passed over
    r"|(?P<digits>(?:(?<![0-9%])(?<![0-9]\.)|(?<=%[0-9A-Fa-f]{2}))[0-9]{3,}(?:(?:[ +-]|%20)[0-9]{3,})*)"
)
_GROUP = re.compile(r"(?:(?<=%20)|(?<![0-9%]))[0-9]+")
_ISSUED = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"
    r"|(?:5[1-5]|2[2-7])[0-9]{14}"
    r"|3[47][0-9]{13}"
    r"|3[0689][0-9]{12,17}"
    r"|(?:35|50|5[6-9]|6[0-9])[0-9]{11,17}"
)
"""Lengths of card numbers by the first digits of those who issue them."""
_LONGEST_CARD = 19
_DOUBLED = bytes.maketrans(
    b"0123456789", bytes(48 + (2 * digit - 9 if digit > 4 else 2 * digit) for digit in range(10))
)


def is_card_number(digits: str) -> bool:
    """Whether 13 to 19 digits are a payment card's: an issuer's first digits, and the check digit is right (Luhn)."""
    if not _ISSUED.fullmatch(digits):
        return False
    values = digits.encode()
    # The ASCII code of "0" is 48; every second digit from the end counts twice, less 9 above 9.
    return (sum(values[-1::-2]) + sum(values[-2::-2].translate(_DOUBLED)) - 48 * len(values)) % 10 == 0


def _mask_cards(text: str) -> str:
    return _DIGITS.sub(_mask_digits, text)


def _mask_digits(found: re.Match[str]) -> str:
    run = found["digits"]
    if run is None or len(run) < 13 or _is_part_of_hash(found):
        return found[0]
    groups = list(_GROUP.finditer(run))
    parts: list[str] = []
    done = first = 0
    while first < len(groups):
        last = _last_of_card(groups, first)
        if last is not None:
            parts += (run[done : groups[first].start()], MASK)
            done, first = groups[last].end(), last
        first += 1
    return "".join((*parts, run[done:])) if parts else run


def _last_of_card(groups: list[re.Match[str]], first: int) -> int | None:
    """Return which group ends the longest card number that begins with `first`, None where none does."""
    digits, longest = "", None
    for last in range(first, len(groups)):
        digits += groups[last][0]
        if len(digits) > _LONGEST_CARD:
            break
        if is_card_number(digits):
            longest = last
    return longest


def _is_part_of_hash(found: re.Match[str]) -> bool:
    """Whether letters stand directly beside the digits and all of them are hexadecimal: then it is no card."""
    text, start, end = found.string, found.start(), found.end()
    beside = ""
    while start and text[start - 1].isalnum() and len(beside) < 64:
        start -= 1
        beside += text[start]
    if start and text[start - 1] == "%":
        beside = beside[:-2]
    while end < len(text) and text[end].isalnum() and len(beside) < 128:
        beside += text[end]
        end += 1
    return bool(beside) and all(character in "0123456789abcdefABCDEF" for character in beside)


_KEY_LENGTH = 20
_SEGMENT = re.compile(r"(?<=/)[A-Za-z0-9_.~-]{6,}")
_ANNOUNCED = re.compile(
    r"(?:[spar]k|key|token|secret|api[_-]?(?:key|token|secret))[_.-].*(?:[A-Za-z]{2}[0-9]|[0-9][A-Za-z]{2})",
    re.IGNORECASE,
)
_SHORTEST_ANNOUNCED = 10
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
