"""Find tokens of well-known forms, and credentials behind the scheme that announces them, and mask them."""

from __future__ import annotations

import base64
import binascii
import re

from .mask import MASK, is_prose


def mask_tokens(text: str) -> str:
    """Return a text without the tokens in it; the same object where there are none."""
    return _TOKEN.sub(_mask_token, text) if _may_hold_token(text) else text


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


def _may_hold_token(text: str) -> bool:
    """Whether it is worth while to look for tokens: each has a long word in it, or an announcement in front."""
    if _LONG_WORD.search(text) or "-----BEGIN" in text:
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
