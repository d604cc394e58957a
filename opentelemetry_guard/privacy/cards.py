"""Find payment card numbers by their issuers' first digits, their lengths and the check digit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .scanning import Span

_MAY_BE_CARD = re.compile(r"[0-9]{3}(?:(?:[ +-]|%20)?[0-9]){11}")
_DIGITS = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"  # a UUID: passed over
    r"|(?P<digits>(?:(?<![0-9%])(?<![0-9]\.)|(?<=%[0-9A-Fa-f]{2}))[0-9]{3,}(?:(?:[ +-]|%20)[0-9]{3,})*)"
)
_GROUP = re.compile(r"(?:(?<=%20)|(?<![0-9%]))[0-9]+")
_ISSUED = re.compile(
    r"4(?:[0-9]{15}|[0-9]{18})"  # Visa
    r"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"  # Mastercard
    r"|3[47][0-9]{13}"  # American Express
    r"|(?:30[0-5]|36[0-9]|3[89][0-9])(?:[0-9]{11}|[0-9]{13}|[0-9]{16})|3095[0-9]{12}"  # Diners Club
    r"|(?:6011|62[0-9]{2}|64[4-9][0-9]|65[0-9]{2})[0-9]{12,15}"  # Discover, UnionPay, RuPay
    r"|35(?:2[89]|[3-8][0-9])[0-9]{12,15}"  # JCB
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])[0-9]{12,15}"  # Maestro
    r"|220[0-4][0-9]{12,15}"  # Mir
    r"|(?:5019|508[5-9]|60[0-9]{2}|9792)[0-9]{12}"  # Dankort, RuPay, Troy
)
"""First digits and lengths of the card numbers in circulation, as their networks publish them. None has 13 digits: the
last ones (Visa's) expired long ago, and EANs, order numbers and phone numbers have them.
"""
_LONGEST_CARD = 19
_DOUBLED = bytes.maketrans(
    b"0123456789", bytes(48 + (2 * digit - 9 if digit > 4 else 2 * digit) for digit in range(10))
)


def is_card_number(digits: str) -> bool:
    """Whether 14 to 19 digits are a payment card's: an issuer's first digits, and the check digit is right (Luhn)."""
    if not _ISSUED.fullmatch(digits):
        return False
    values = digits.encode()
    # The ASCII code of "0" is 48; every second digit from the end counts twice, less 9 above 9.
    return (sum(values[-1::-2]) + sum(values[-2::-2].translate(_DOUBLED)) - 48 * len(values)) % 10 == 0


def cards(text: str) -> Iterable[Span]:
    """Find the card numbers in a text, also those with blanks or dashes."""
    return _cards(text) if _MAY_BE_CARD.search(text) else ()


def _cards(text: str) -> Iterator[Span]:
    for found in _DIGITS.finditer(text):
        run = found["digits"]
        if run is None or len(run) < 14 or _is_part_of_hash(found):
            continue
        groups = list(_GROUP.finditer(run))
        start, first = found.start(), 0
        while first < len(groups):
            last = _last_of_card(groups, first)
            if last is not None:
                yield start + groups[first].start(), start + groups[last].end()
                first = last
            first += 1


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
