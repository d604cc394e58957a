"""Find secrets in plain text by their shape or by the name in front of them, and mask them.

Every rule is linear in the text's length: names and tokens are tried at the
beginning of a word only, and none of the patterns can match one text in two
ways. Masked text holds nothing that a rule matches again.
"""

from __future__ import annotations

import base64
import binascii
import re

from .sensitive_names import Names, canonical

MASK = "[REDACTED]"
"""What stands in a secret's place."""


def mask(text: str, names: Names) -> str:
    """Return `text` without the secrets that are recognised in it; the same object where there are none.

    Recognised are tokens of well-known forms, credentials after ``Bearer``
    and ``Basic``, passwords in URLs, payment card numbers, and whatever
    follows a sensitive name as its value (``name=value``, ``name: value``,
    quoted or percent-encoded, XML elements, parts of a multipart form).
    """
    if len(text) < _SHORTEST:
        return text
    if _may_hold_token(text):
        text = _TOKEN.sub(_mask_token, text)
    if "://" in text and "@" in text:
        text = _USERINFO.sub(rf"\g<user>{MASK}@", text)
    if _MAY_BE_CARD.search(text):
        text = _mask_cards(text)
    if _may_hold_pair(text):
        text = _mask_form_fields(text, names) if "form-data" in text else text
        text = _mask_pairs(text, names)
    return text


def mask_path(text: str) -> str:
    """Return a URL or a path without the segments that look like keys: long mixes of letters and digits, no UUIDs."""
    return _SEGMENT.sub(_mask_segment, text) if len(text) > _KEY_LENGTH else text


_SHORTEST = 5
"""Characters of the shortest secret together with its name, ``pw=1``."""
_LONG_WORD = re.compile(r"[A-Za-z0-9_=+-]{16}")
_BEGIN = r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2}))"
"""The beginning of a word, also after a percent-encoded character."""
_BLANK = r"(?:\s|\+|%20)+"
_TOKEN = re.compile(
    _BEGIN
    + r"""(?:
      eyJ[A-Za-z0-9_-]{13,}(?:\.[A-Za-z0-9_-]*){1,4}             # JWT, JWS, JWE
    | eyJ[A-Za-z0-9_-]{60,}                                     # of which the rest was cut off
    | (?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{8,}                # Stripe
    | whsec_[A-Za-z0-9+/=]{16,}
    | sk-(?:[A-Za-z0-9]{1,10}-){0,4}[A-Za-z0-9_]{16,}[A-Za-z0-9_-]*   # OpenAI, Anthropic
    | gh[oprsu]_[A-Za-z0-9]{16,} | github_pat_[A-Za-z0-9_]{16,}   # GitHub
    | gl(?:pat|dt|rt|ptt|ft|soat|cbt|agent|oas)-[A-Za-z0-9_.-]{16,}   # GitLab
    | xox[a-z](?:-[A-Za-z0-9]+){1,8} | xapp-[A-Za-z0-9-]{11,}    # Slack
    | (?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}                      # AWS
    | AIza[A-Za-z0-9_-]{20,} | ya29\.[A-Za-z0-9_.-]{16,}        # Google
    | SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}                # SendGrid
    | npm_[A-Za-z0-9]{16,} | pypi-[A-Za-z0-9_-]{16,} | dckr_pat_[A-Za-z0-9_-]{16,} | rubygems_[a-f0-9]{16,}
    | hf_[A-Za-z0-9]{16,} | gsk_[A-Za-z0-9]{16,} | r8_[A-Za-z0-9]{16,}
    | do[opr]_v1_[a-f0-9]{16,} | shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{16,} | sq0[a-z]{3}-[A-Za-z0-9_-]{16,}
    | hv[sbr]\.[A-Za-z0-9_-]{16,}                               # Vault
    | (?i:bearer)""" + _BLANK + r"""(?P<bearer>[A-Za-z0-9._~+/=-]{4,})
    | (?i:basic)""" + _BLANK + r"""(?P<basic>[A-Za-z0-9+/=_%-]{6,})
    )
    | -----BEGIN[A-Z0-9 +%]{0,40}PRIVATE[A-Z +%0-9]{1,20}-----(?s:.*?)(?:-----END[A-Z0-9 +%]{1,60}-----|\Z)
    """,
    re.VERBOSE,
)  # fmt: skip

_USERINFO = re.compile(r"(?P<user>://[^\s/:@?#\"']{0,200}:)[^\s/@\"']+@")


def _may_hold_token(text: str) -> bool:
    """Whether it is worth while to look for tokens: each has a long word in it, or an announcement in front."""
    if _LONG_WORD.search(text) or "-----BEGIN" in text:
        return True
    lower = text.lower()
    return "bearer" in lower or "basic" in lower


_PROSE = frozenset(
    """
    token tokens auth authentication authorization scheme schemes credential credentials header headers type format
    prefix required missing expected expired invalid
    """.split()  # noqa: SIM905  words read better than a column of strings
)
"""Words that follow "bearer" in a sentence."""


def _mask_token(found: re.Match[str]) -> str:
    text = found[0]
    form = found.lastgroup
    if form is None:
        return MASK
    start = found.start(form) - found.start()
    value = found[form]
    if (form == "bearer" and value.strip(".,-").lower() in _PROSE) or (form == "basic" and not _is_user_pass(value)):
        return text
    return text[:start] + MASK + text[start + len(value) :]


def _is_user_pass(value: str) -> bool:
    """Whether a value is base64 of ``user:password``, as far as it goes."""
    value = value.replace("%3D", "").replace("%3d", "").rstrip("=").replace("-", "+").replace("_", "/")
    padding = {2: "==", 3: "="}.get(len(value) % 4, "")
    try:
        return b":" in base64.b64decode(value[: len(value) - (len(value) % 4 == 1)] + padding)
    except (ValueError, binascii.Error):
        return False


_MAY_BE_CARD = re.compile(r"[0-9]{3}(?:(?:[ +-]|%20)?[0-9]){10}")
_DIGITS = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"  # a UUID: passed over
    r"|(?P<digits>(?:(?<![0-9%])|(?<=%[0-9A-Fa-f]{2}))[0-9]{3,}(?:(?:[ +-]|%20)[0-9]{3,})*)"
)
_SEPARATOR = re.compile(r"[ +-]|%20")
_ISSUED = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"
    r"|(?:5[1-5]|2[2-7])[0-9]{14}"
    r"|3[47][0-9]{13}"
    r"|3[0689][0-9]{12,17}"
    r"|(?:35|50|5[6-9]|6[0-9])[0-9]{11,17}"
)
"""Lengths of card numbers by the first digits of those who issue them."""


def is_card_number(digits: str) -> bool:
    """Whether 13 to 19 digits are a payment card's: an issuer's first digits, and the check digit is right (Luhn)."""
    if not _ISSUED.fullmatch(digits):
        return False
    total = 0
    for position, digit in enumerate(reversed(digits)):
        number = ord(digit) - 48
        if position % 2:
            number = number * 2 - 9 if number > 4 else number * 2
        total += number
    return total % 10 == 0


def _mask_cards(text: str) -> str:
    return _DIGITS.sub(_mask_digits, text)


def _mask_digits(found: re.Match[str]) -> str:
    run = found["digits"]
    if run is None or len(run) < 13:
        return found[0]
    if _is_part_of_hash(found):
        return run
    groups = [(match.start(), match.end()) for match in re.finditer(r"(?:^|(?<=[ +-])|(?<=%20))[0-9]+", run)]
    first = 0
    while first < len(groups):
        for last in range(min(len(groups), first + 19) - 1, first - 1, -1):
            digits = _SEPARATOR.sub("", run[groups[first][0] : groups[last][1]])
            if 13 <= len(digits) <= 19 and is_card_number(digits):
                return run[: groups[first][0]] + MASK + _masked_rest(run[groups[last][1] :])
        first += 1
    return run


def _masked_rest(rest: str) -> str:
    return _mask_cards(rest) if len(rest) >= 13 else rest


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
_SEGMENT = re.compile(r"(?<=/)[A-Za-z0-9_.~-]{20,}")
_PIECE = re.compile(r"[A-Za-z0-9]+")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
HASHED_ADDRESS = re.compile(r"ip-hmac-[0-9a-f]{32}")
"""A client's address under a key (`hashed_addresses`), which is no secret."""
_TURN = re.compile(r"[0-9](?=[A-Za-z])|[A-Za-z](?=[0-9])")


def _mask_segment(found: re.Match[str]) -> str:
    segment = found[0]
    if _UUID.fullmatch(segment) or HASHED_ADDRESS.fullmatch(segment):
        return segment
    mixed = [piece for piece in _PIECE.findall(segment) if _TURN.search(piece)]
    turns = sum(len(_TURN.findall(piece)) for piece in mixed)
    return MASK if sum(map(len, mixed)) >= _KEY_LENGTH and turns >= 4 else segment


_ENCODED_DELIMITER = r"(?:25)*(?:3[ABDFabdf]|2[02367Ccf8F9]|0[ADad])"
_AFTER = r"(?:3[ABDFabdf]|2[02367Ccf8F9]|0[ADad])"
_LETTER = r"[A-Za-z0-9_.\[\]$-]"
_ENCODED = rf"%(?!{_ENCODED_DELIMITER})[0-9A-Fa-f]{{2}}"
_PAIR = re.compile(
    r"(?:(?<![A-Za-z0-9_.\[\]$%-])|"
    rf"(?<=%{_AFTER})|(?<=%25{_AFTER}))"
    # The check behind the name spares trying its beginnings.
    rf"(?P<name>(?:{_LETTER}|{_ENCODED}){_LETTER}{{0,64}}(?:{_ENCODED}{_LETTER}{{0,64}}){{0,8}})(?!{_LETTER})"
    r"(?P<closing>\\*[\"']|%(?:25)*2[27])?"
    r"[ \t]*(?P<separator>[=:,>]|%(?:25)*3[ADad])"
    r"(?:[ \t]|%20|\\[trn])*"
)
_QUOTED = re.compile(r"b?(?P<quote>\\*[\"'])(?P<value>(?s:.*?))(?=(?<!\\)(?P=quote)|\Z)")
_PARAMETER = re.compile(
    rf"(?:(?:Bearer|Basic|Digest|Token|ApiKey|Negotiate){_BLANK})?"
    r"(?:[^\s&\"'%]|%(?!(?:25)*26)(?:[0-9A-Fa-f]{2})?)+",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[^\s&\"']+(?:(?<![,;])[ \t]+[^\s,;&\"'=:]+(?=[\s,;&\"']|\Z))*")
_LINE = re.compile(r"(?:[^\r\n\\]|\\(?![rn]))+")
_ELEMENT = re.compile(r"[^<]+")
_WHOLE_LINE = frozenset({"authorization", "proxyauthorization", "cookie", "setcookie"})
"""Headers whose value holds blanks, quotes, commas and semicolons."""
_DETECTION = re.compile(r"(?:Value matched|Semantic attack|Pattern exceeded|Threat detected)\b")
"""How guard-core goes on after the name of the field in which it found something."""
_FORM_FIELD = re.compile(r"\bname=\"?(?P<name>[^\"\r\n;]{1,64})")
_BLANK_LINE = re.compile(r"\r?\n\r?\n")


def _may_hold_pair(text: str) -> bool:
    """Whether anything separates a name from a value."""
    if "=" in text or ":" in text or "%" in text:
        return True
    return ("<" in text and ">" in text) or ("," in text and ("'" in text or '"' in text))


def _mask_form_fields(text: str, names: Names) -> str:
    """Mask the parts of a multipart form whose names are sensitive."""
    parts = re.split(r"(\r?\n--)", text)
    for position, part in enumerate(parts):
        blank = _BLANK_LINE.search(part)
        head = part[: blank.start()] if blank else ""
        found = _FORM_FIELD.search(head) if blank and "form-data" in head else None
        if blank and found and found["name"] in names and blank.end() < len(part):
            parts[position] = part[: blank.end()] + MASK
    return "".join(parts)


def _mask_pairs(text: str, names: Names) -> str:
    parts: list[str] = []
    done = 0
    found = _PAIR.search(text)
    while found is not None:
        begin = found.end()
        end = begin
        if found["name"] in names and (value := _value(text, found)):
            begin, end = value
            parts += (text[done:begin], MASK)
            done = end
        found = _PAIR.search(text, end)
    return "".join((*parts, text[done:])) if parts else text


def _value(text: str, pair: re.Match[str]) -> tuple[int, int] | None:
    """Return where the value of a sensitive name begins and ends, None where none follows."""
    position, separator, closing = pair.end(), pair["separator"], pair["closing"]
    quoted = _QUOTED.match(text, position)
    found: re.Match[str] | None
    if separator == ",":
        # Only two quoted strings are a pair; a comma in a sentence means nothing.
        found = quoted if closing else None
    elif separator == ">":
        found = _ELEMENT.match(text, position) if text[pair.start() - 1 : pair.start()] in ("<", ":") else None
    elif canonical(pair["name"]) in _WHOLE_LINE and not quoted:
        found = _LINE.match(text, position)
    elif quoted:
        found = quoted
    elif text[position : position + 1] in ("{", "["):
        found = None if text.startswith(MASK, position) else _LINE.match(text, position)
        if found is None:
            # What was masked before stays masked, together with what stands directly behind it.
            found = _PARAMETER.match(text, position)
    elif separator == ":" and not (closing and _DETECTION.match(text, position)):
        found = _CLAUSE.match(text, position)
    elif separator == ":":
        found = None
    else:
        found = _PARAMETER.match(text, position)
    if found is None:
        return None
    if found is quoted:
        return (found.start("value"), found.end("value")) if found["value"] else None
    return found.span()
