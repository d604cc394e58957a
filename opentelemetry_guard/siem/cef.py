r"""CEF: an event as a line of ArcSight's Common Event Format, version 0, without a syslog header.

The header's seven fields stand between pipes, the extension is ``key=value``
pairs with a space between them. A backslash escapes itself, a pipe in the
header, and an equals sign in the extension, where ``\n`` and ``\r`` stand for
ends of lines. Any other control character becomes a space, so that nothing in
a field ends a line or begins a key.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping

from ..version import __version__
from .facts import Facts, Outcome, facts_of

VENDOR = "opentelemetry-guard"
PRODUCT = "Guard"

LABELS: Mapping[str, str] = {
    "cs1": "traceId",
    "cs2": "rule",
    "cs3": "country",
    "cs4": "hashedAddress",
    "cs5": "correlationKey",
    "cs6": "environment",
    "cn1": "httpStatus",
    "cn2": "threatScore",
    "cn3": "recentEventCount",
    "cfp1": "responseSeconds",
    "c6a2": "sourceIPv6Address",
    "flexString1": "matched",
}
"""What each custom key means, as the line itself says in ``cs1Label`` and so on."""

_OUTCOMES: Mapping[Outcome, str] = {Outcome.BLOCKED: "failure", Outcome.REJECTED: "failure", Outcome.OBSERVED: ""}

EXTENSION: Mapping[str, tuple[int, Callable[[Facts], object]]] = {
    "rt": (20, lambda facts: facts.milliseconds),
    "externalId": (40, lambda facts: facts.uid),
    "cat": (1023, lambda facts: facts.behavior),
    "act": (63, lambda facts: facts.action),
    "outcome": (63, lambda facts: _OUTCOMES[facts.outcome]),
    "src": (45, lambda facts: "" if ":" in facts.ip else facts.ip),
    "c6a2": (45, lambda facts: facts.ip if ":" in facts.ip else ""),
    "cs4": (4000, lambda facts: facts.client),
    "suser": (1023, lambda facts: facts.user),
    "requestMethod": (1023, lambda facts: facts.method),
    "request": (1023, lambda facts: f"{facts.path}?{facts.query}" if facts.query else facts.path),
    "requestClientApplication": (1023, lambda facts: facts.user_agent),
    "cn1": (20, lambda facts: facts.status),
    "cfp1": (40, lambda facts: _decimal(facts.duration)),
    "msg": (1023, lambda facts: facts.message),
    "reason": (1023, lambda facts: facts.reason),
    "cs2": (4000, lambda facts: facts.rule),
    "flexString1": (1023, lambda facts: facts.pattern),
    "cs3": (4000, lambda facts: facts.country),
    "cs1": (4000, lambda facts: facts.trace_id),
    "cs5": (4000, lambda facts: facts.correlation_key),
    "cn2": (20, lambda facts: facts.threat_score),
    "cn3": (20, lambda facts: facts.recent_events),
    "destinationServiceName": (1023, lambda facts: facts.service),
    "deviceExternalId": (255, lambda facts: facts.instance),
    "cs6": (4000, lambda facts: facts.environment),
}
"""Each key of the extension: how many characters its value may have, and the fact that it tells."""

_HEADER_CHARACTERS = 512


def cef(row: Mapping[str, object]) -> str:
    """Return an event's row as a line of CEF, without an end of line."""
    facts = facts_of(row)
    name = facts.event_type.replace("_", " ")
    header = (VENDOR, PRODUCT, __version__, facts.event_type, name, str(facts.severity))
    pairs: list[str] = []
    for key, (most, read) in EXTENSION.items():
        value = read(facts)
        text = "" if value is None else _escaped(str(value)[:most].strip(), "=").strip()
        if text:
            pairs.append(f"{key}={text}")
            if key in LABELS:
                pairs.append(f"{key}Label={LABELS[key]}")
    return f"CEF:0|{'|'.join(_header(field) for field in header)}|{' '.join(pairs)}"


def _decimal(value: float | None) -> str:
    """Return a number without an exponent, which readers of CEF need not know, to the microsecond."""
    return "" if value is None else f"{value:.6f}".rstrip("0").rstrip(".")


def _header(text: str) -> str:
    return _escaped(" ".join(text[:_HEADER_CHARACTERS].split()), "|").strip() or "unknown"


_LINE_ENDS = {"\n": "\\n", "\r": "\\r"}


def _escaped(text: str, separator: str) -> str:
    text = text.replace("\\", "\\\\").replace(separator, f"\\{separator}")
    if text.isprintable():
        return text
    return "".join(_LINE_ENDS.get(sign) or (" " if _ends_lines(sign) else sign) for sign in text)


def _ends_lines(sign: str) -> bool:
    """Whether a character is of those that control a device, or that some readers take for the end of a line."""
    return unicodedata.category(sign) in ("Cc", "Zl", "Zp", "Cs")
