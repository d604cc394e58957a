"""Mask the passwords in URLs: what stands between ``//user:`` and the ``@`` in front of the host."""

from __future__ import annotations

import re

from .mask import MASK

_USERINFO = re.compile(r"(?P<user>://[^\s/:@?#\"']{0,200}:)(?![0-9]{1,5}[?#])[^\s/\"']+@")


def mask_url_passwords(text: str) -> str:
    """Return a text without the passwords of the URLs in it; the same object where there are none."""
    if "://" in text and "@" in text:
        return _USERINFO.sub(rf"\g<user>{MASK}@", text)
    return text
