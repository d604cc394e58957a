"""Which signatures requests are held against, and which parts of them: data of the rule `signatures`.

The signatures are data as well: `opentelemetry_guard/decision/signatures.ini`.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import values
from .rules import entries, rule, switch

CATEGORIES = (
    "code_injection",
    "command_injection",
    "encoding",
    "jndi",
    "scanner",
    "sql_injection",
    "ssrf",
    "template_injection",
    "traversal",
    "xss",
    "xxe",
)
"""The categories that there are."""

HEADERS = (
    "origin",
    "referer",
    "user-agent",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-original-url",
    "x-rewrite-url",
)
"""The headers that are looked into."""


def _category(value: object) -> str:
    if value not in CATEGORIES:
        raise ValueError(f"the categories are {', '.join(CATEGORIES)}")
    return str(value)


def _header(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isascii():
        raise ValueError("a header must be its name, like 'referer'")
    return value.strip().lower()


@dataclass(frozen=True, slots=True)
class SignatureRules:
    """What is looked for, and where. Query and path always are looked into.

    Attributes:
        categories: of the signatures.
        headers: whose values are looked into.
        body: whether JSON and form bodies are looked into.
        body_bytes: of a body that are looked at; the application gets all of it as ever.
        together: different signatures of low severity (shapes of files that other frameworks have) of one client that
            make one event.
        seconds: the window in which they have to lie.
        clients: how many clients are remembered for that.
    """

    categories: tuple[str, ...] = entries(CATEGORIES, _category)
    headers: tuple[str, ...] = entries(HEADERS, _header)
    body: bool = rule(False, switch)
    body_bytes: int = rule(8192, values.whole(1, 65_536))
    together: int = rule(3, values.whole(1, 10))
    seconds: float = rule(300.0, values.number(1, 86_400))
    clients: int = rule(4096, values.whole(1, 1_000_000))
