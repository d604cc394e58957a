"""Find tokens of well-known forms, and credentials behind the scheme that announces them, and mask them."""

from __future__ import annotations

import base64
import binascii
import re

from .mask import MASK, is_prose
from .token_forms import TOKEN


def mask_tokens(text: str) -> str:
    """Return a text without the tokens in it; the same object where there are none."""
    return _TOKEN.sub(_mask_token, text) if _may_hold_token(text) else text


_LONG_WORD = re.compile(r"(?<![A-Za-z0-9_=+-])[A-Za-z0-9_=+-]{16}")
_BEGIN = r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2}))"
"""The beginning of a word, also after a percent-encoded character."""
BLANK = r"(?:\s|\+|%20)+(?!(?<=[\r\n])[A-Za-z][\w-]{0,63}:)"
"""What may be between a scheme and its credentials; they are not the name of the header in the next line."""
_TOKEN = re.compile(
    rf"{_BEGIN}(?:{TOKEN}"
    rf"|(?i:digest){BLANK}(?P<digest>(?:username|realm|nonce|uri|response|algorithm)=[^\r\n]+)"
    rf"|(?i:bearer){BLANK}(?P<bearer>[A-Za-z0-9._~+/=-]{{4,}})"
    rf"|(?i:basic){BLANK}(?P<basic>[A-Za-z0-9+/=_%-]{{6,}}))"
    r"|-----BEGIN[A-Z0-9 +%]{0,40}PRIVATE[A-Z +%0-9]{1,20}-----(?s:.*?)(?:-----END[A-Z0-9 +%]{1,60}-----|\Z)"
)


def _may_hold_token(text: str) -> bool:
    """Whether it is worth while to look for tokens: each has a long word in it, Slack's sign, or an announcement."""
    if _LONG_WORD.search(text) or "-----BEGIN" in text or "xox" in text:
        return True
    lower = text.lower()
    return "bearer" in lower or "basic" in lower or "digest" in lower


def _mask_token(found: re.Match[str]) -> str:
    text = found[0]
    form = found.lastgroup
    if form is None:
        return MASK
    start = found.start(form) - found.start()
    value = found[form]
    if (form == "bearer" and is_prose(value)) or (form == "basic" and not _is_user_pass(value)):
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
