"""Find secrets in plain text by their shape or by the name in front of them, and mask them.

Every rule is linear in the text's length: names and tokens are tried at the
beginning of a word only, and none of the patterns can match one text in two
ways. Masked text holds nothing that a rule matches again.
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import cache

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
    if "<" in text and ">" in text:
        text = _mask_elements(text, names)
    if _may_hold_pair(text):
        text = _mask_form_fields(text, names) if "form-data" in text else text
        text = _mask_pairs(text, names)
    return text


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
_LONG_WORD = re.compile(r"(?<![A-Za-z0-9_=+-])[A-Za-z0-9_=+-]{16}")
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
    | (?i:digest)""" + _BLANK + r"""(?P<digest>(?:username|realm|nonce|uri|response|algorithm)=[^\r\n]+)
    | (?i:bearer)""" + _BLANK + r"""(?P<bearer>[A-Za-z0-9._~+/=-]{4,})
    | (?i:basic)""" + _BLANK + r"""(?P<basic>[A-Za-z0-9+/=_%-]{6,})
    )
    | -----BEGIN[A-Z0-9 +%]{0,40}PRIVATE[A-Z +%0-9]{1,20}-----(?s:.*?)(?:-----END[A-Z0-9 +%]{1,60}-----|\Z)
    """,
    re.VERBOSE,
)  # fmt: skip

_USERINFO = re.compile(r"(?P<user>://[^\s/:@?#\"']{0,200}:)(?![0-9]{1,5}[?#])[^\s/\"']+@")


def _may_hold_token(text: str) -> bool:
    """Whether it is worth while to look for tokens: each has a long word in it, or an announcement in front."""
    if _LONG_WORD.search(text) or "-----BEGIN" in text:
        return True
    lower = text.lower()
    return "bearer" in lower or "basic" in lower or "digest" in lower


_PROSE = frozenset(
    """
    token tokens auth authentication authorization scheme schemes credential credentials header headers type format
    prefix required missing expected expired invalid not found is was has been too short long empty
    malformed revoked rejected refused unknown unsupported unexpected wrong mismatch failed failure error denied closed
    signature verification validation value field none null
    """.split()  # noqa: SIM905  words read better than a column of strings
)
"""Words that follow "bearer" or "token:" in a sentence."""


def _is_prose(text: str) -> bool:
    return all(word.strip(".,;-").lower() in _PROSE for word in text.split())


def _mask_token(found: re.Match[str]) -> str:
    text = found[0]
    form = found.lastgroup
    if form is None:
        return MASK
    start = found.start(form) - found.start()
    value = found[form]
    if (form == "bearer" and _is_prose(value)) or (form == "basic" and not _is_user_pass(value)):
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


_ENCODED_DELIMITER = r"(?:25)*(?:3[ABDFabdf]|2[02367Ccf8F9]|0[ADad])"
_AFTER = r"(?:3[ABDFabdf]|2[02367Ccf8F9]|0[ADad])"
# Wide, mathematical and invisible letters too: what reads like a name may be taken for it.
_ODD = "\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff3f\u00ad\u200b-\u200d\u2060\ufeff\U0001d400-\U0001d7ff"
_LETTER = rf"[A-Za-z0-9_.\[\]${_ODD}-]"
_ENCODED = rf"%(?!{_ENCODED_DELIMITER})[0-9A-Fa-f]{{2}}"
_PAIR = re.compile(
    r"(?:(?<![A-Za-z0-9_.\[\]$%-])|"
    rf"(?<=%{_AFTER})|(?<=%25{_AFTER}))"
    # The check behind the name spares trying its beginnings.
    rf"(?P<name>(?:{_LETTER}|{_ENCODED}){_LETTER}{{0,64}}(?:{_ENCODED}{_LETTER}{{0,64}}){{0,8}})(?!{_LETTER})"
    r"(?P<closing>\\*[\"']|%(?:25)*2[27])?"
    r"[ \t]*(?P<separator>[=:]?=>?|[:,\uff1d\uff1a]|%(?:25)*3[ADEade])"
    r"(?:[ \t]|%20|\\[trn])*"
)
_QUOTED = re.compile(r"b?(?P<quote>\\*[\"'])(?P<value>(?s:.*?))(?=(?<!\\)(?P=quote)(?![A-Za-z0-9]|(?P=quote))|\Z)")
_ENCODED_QUOTED = re.compile(r"(?P<quote>%(?:25)*2[27])(?P<value>[^\s&\"']*?)(?=(?P=quote)|[\s&\"']|\Z)")
_QUOTE_WITHIN = r"[\"'](?=[^\s,;:)\]}>&\\\"'])"
"""A quote that does not end anything: it is part of a value that began without one."""
_FORM_VALUE = re.compile(r"[^&?\r\n]{1,512}(?=&[A-Za-z0-9_.\[\]%-]{1,64}=)")
"""A value of a form or a query that was not encoded, or not any more: all up to the next parameter."""
_SCHEME = rf"(?:(?:Bearer|Basic|Digest|Token|ApiKey|Negotiate){_BLANK})?"
_PARAMETER = re.compile(rf"{_SCHEME}(?:[^\s&\"']|{_QUOTE_WITHIN})+", re.IGNORECASE)
_CLAUSE = re.compile(rf"(?:[^\s&\"']|{_QUOTE_WITHIN})+(?:(?<![,;])[ \t]+[^\s,;&\"'=:]+(?=[\s,;&\"']|\Z))*")
_LINE = re.compile(r"(?:[^\r\n\\]|\\(?![rn]))+")
_ELEMENT = re.compile(
    r"<(?:[\w.-]{1,64}:)?(?P<name>[\w.-]{1,64})(?:\s[^<>]{0,512})?>(?P<value>(?:[^<]|<!\[CDATA\[(?s:.*?)(?:\]\]>|\Z))+)"
)
_WHOLE_LINE = frozenset({"authorization", "proxyauthorization", "cookie", "setcookie"})
"""Headers whose value holds blanks, quotes, commas and semicolons."""
_DETECTION = re.compile(r"(?:Value matched|Semantic attack|Pattern exceeded|Threat detected)\b")
"""How guard-core goes on after the name of the field in which it found something."""
_FORM_FIELD = re.compile(r"\bname=\"?(?P<name>[^\"\r\n;]{1,64})")
_BLANK_LINE = re.compile(r"\r?\n\r?\n")


def _may_hold_pair(text: str) -> bool:
    """Whether anything separates a name from a value."""
    if "=" in text or ":" in text or "%" in text or ("," in text and ("'" in text or '"' in text)):
        return True
    return not text.isascii() and ("\uff1d" in text or "\uff1a" in text)


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


def _mask_elements(text: str, names: Names) -> str:
    """Mask what XML elements with sensitive names hold."""

    def masked(found: re.Match[str]) -> str:
        if found["name"] not in names or found["value"].isspace():
            return found[0]
        return found[0][: found.start("value") - found.start()] + MASK

    return _ELEMENT.sub(masked, text)


@cache
def _encoded_parameter(level: int) -> re.Pattern[str]:
    """Return the pattern of a value in a query that was percent-encoded once more than `level` times."""
    return re.compile(rf"(?:[^\s&\"'%]|{_QUOTE_WITHIN}|%(?!(?:25){{0,{level}}}26))+")


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
    elif canonical(pair["name"]) in _WHOLE_LINE and not quoted:
        found = _LINE.match(text, position)
    elif separator == "=" and (form := _FORM_VALUE.match(text, position)):
        found = form
    elif quoted:
        found = quoted
    elif text[position : position + 1] in ("{", "["):
        found = None if text.startswith(MASK, position) else _LINE.match(text, position)
        if found is None:
            # What was masked before stays masked, together with what stands directly behind it.
            found = _PARAMETER.match(text, position)
    elif separator[0] == "%":
        quoted = _ENCODED_QUOTED.match(text, position) if closing else None
        found = quoted or _encoded_parameter(separator.count("25")).match(text, position)
    elif separator == ":":
        found = None if closing and _DETECTION.match(text, position) else _CLAUSE.match(text, position)
    else:
        found = _PARAMETER.match(text, position)
    if found is None:
        return None
    begin, end = found.span("value") if found is quoted else found.span()
    value = text[begin:end]
    # Signs are no secret, and "invalid token: expired" is a sentence.
    if not any(map(str.isalnum, value)) or (separator == ":" and _is_prose(value)):
        return None
    return begin, end
