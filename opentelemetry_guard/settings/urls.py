"""URLs as they may be shown."""

from __future__ import annotations

import re


def mask_url(url: str) -> str:
    """Return a URL that is safe to show: user, password and options are replaced by ``***``."""
    masked = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)?.*@", r"\1***@", url, flags=re.DOTALL)
    return re.sub(r"[?#].*", "?***", masked, flags=re.DOTALL)
