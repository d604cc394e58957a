"""Texts that a hostile client sends to make masking slow: every token that its rules know, repeated."""

from __future__ import annotations

import random

NAMES = ("password", "pwd", "token", "x-api-key", "cookie", "authorization", "a", "pass%77ord", "p\uff41ssword", "loc")
LABELS = ("name", "value", "key", "header", "input", "type", "content", "Content-Disposition", "name%3D")
QUOTES = ("'", '"', '\\"', "\\'", '\\\\\\"', "%22", "%27", "%2522", "b'", "''", '""', "&quot;", "\\u0022", "\\", "`")
SEPARATORS = (
    "=",
    ":",
    "=>",
    ":=",
    ",",
    ", ",
    "%3D",
    "%3A",
    "%253D",
    "%25",
    "&",
    "?",
    ";",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
)
BRACKETS = (
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "<",
    ">",
    "</",
    "/>",
    "<![CDATA[",
    "]]>",
    "<!--",
    "<a ",
    "<input ",
    "<password>",
)
ADDRESSES = (
    "://",
    "://u:",
    "https://u:p",
    "@",
    "u:p@",
    "%3A%2F%2F",
    "%40",
    "/",
    "//",
    "?a=",
    "#",
    ":8080",
    "://:",
    ".",
)
TOKENS = (
    *(
        "eyJ",
        "eyJhbGciOiJIUzI1NiJ9",
        "eyJaaaaaaaaaaaaaaaaaaaa.",
        ".",
        "sk_live_",
        "sk-",
        "sk-a-",
        "whsec_",
        "ghp_",
        "xoxb-",
    ),
    *(
        "AKIA",
        "SG.",
        "SG.aaaaaaaaaaaaaaaaaaaa",
        "ya29.",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN",
        "-----END A",
        "-----",
    ),
    *(
        "Bearer ",
        "bearer+",
        "Basic ",
        "basic+",
        "Digest ",
        "digest nonce=",
        "Ym9iOmh1",
        "hvs.",
        "glpat-",
        "A" * 20,
        "a1" * 10,
    ),
)
CARDS = ("4111", "4111 ", "4111-1111-", "5555555555554444", "1%20", "0", "411111111111111", "ffff", "12345678-1234-")
FORMS = ("\r\n--", "\r\n\r\n", "form-data; ", 'form-data; name="password"', "boundary=", "\n--x\n", "; name=")
QUOTATIONS = (
    *(
        "Header '",
        "Query param '",
        "JSON key name '",
        "': Value matched",
        "':",
        " in query_param:",
        "Invalid referrer: ",
        "x' not in",
    ),
    *(
        "Anomaly callback failed: ",
        "[type=",
        "input_value=",
        "input_value='",
        ", input_type=str]",
        "1 validation error for A\n",
    ),
    *(
        "\npassword\n  ",
        "'loc': (",
        "('body', 'password')",
        "'input': ",
        "[SQL: ",
        "VALUES (",
        "[parameters: (",
        "--password ",
    ),
    *(
        "IDENTIFIED BY ",
        "password: |\n",
        "\n  ",
        "- ",
        "Key (",
        ")=(",
        "Duplicate entry '",
        "' for key '",
        "{'name': 'password', ",
    ),
)
LETTERS = ("é", "\uff41", "\u200b", "😀", "%41", "%C3%A9", "\\u0070", "\\n", "%", "+", "%20", "$", "_", "-", "0x", "1")
ADDRESS_PARTS = ("1.", "203.0.113.7", "2001:db8::", "::", "f:", "203.0.113.7, ")
PARTS = (
    *NAMES, *LABELS, *QUOTES, *SEPARATORS, *BRACKETS, *ADDRESSES, *TOKENS, *CARDS, *FORMS, *QUOTATIONS, *LETTERS,
    *ADDRESS_PARTS,
)  # fmt: skip
"""All of them: a rule that learns a new form adds it here."""

KNOWN = ("pwd,'a ", "pwd='", "password={", "'pwd", "Header 'x", "token:a ", "pwd=a b", "name='name='", "<a b='")
"""Units that have been slow, or that look as if they might be."""


def unit(seed: int) -> str:
    """Return a unit to repeat: one to five parts; the same one for a seed for ever."""
    made = random.Random(seed)
    return "".join(made.choices(PARTS, k=made.randint(1, 5)))


def grown(unit: str, size: int) -> str:
    """Return a unit repeated to `size` characters."""
    return (unit * (size // len(unit) + 1))[:size]


def numbered(unit: str, size: int) -> str:
    """Return a unit with another number each time, so that no two names or values are the same; `size` characters."""
    parts: list[str] = []
    length = 0
    while length < size:
        parts.append(f"{len(parts)}{unit}")
        length += len(parts[-1])
    return "".join(parts)[:size]
