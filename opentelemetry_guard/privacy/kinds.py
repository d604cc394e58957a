"""What the name of a field, a tag or an attribute says about its value."""

from __future__ import annotations

from enum import Enum

from .hashed_addresses import is_address_name
from .quoted_content import CONTENT_KEYS
from .sensitive_names import Names, canonical


class Kind(Enum):
    """What a name says about its value."""

    PLAIN = "text"
    PATH = "a URL or a path"
    QUOTING = "text in which guard-core quotes the request"
    ADDRESS = "client addresses"
    ID = "an identifier or a time, which stays as it is"
    SECRET = "a secret"  # noqa: S105  a kind, not a secret
    CONTENT = "a quotation of the request"

    __hash__ = object.__hash__  # Enum's own is ten times slower, and each text is looked up by its kind


_PATHS = frozenset(
    canonical(name)
    for name in """
    endpoint url uri path href location target referer referrer url.full url.path http.url http.target http.route
    request-url request-uri request-path raw-path full-path document-uri blocked-uri source-file redirect-url
    url.query query query-string http.query
    """.split()  # noqa: SIM905  words read better than a column of strings
)
_IDS = frozenset({"timestamp", "idempotency_key", "trace_id", "span_id", "traceparent", "batch_id", "correlation_id"})
_QUOTING = frozenset({"reason", "trigger_info", "context", "guard.reason"})
_HEADER_ATTRIBUTES = ("http.request.header.", "http.response.header.")
"""What a span puts in front of the names of headers."""


def kind_of(name: str, names: Names, *, capture_content: bool) -> Kind:
    """Return the kind of the values under a name.

    Args:
        name: of a field, a header, a tag or an attribute.
        names: which names are sensitive.
        capture_content: whether quotations of the request are wanted.
    """
    name = _without_prefix(name)
    if name in names:
        return Kind.SECRET
    if name in _IDS:
        return Kind.ID
    if not capture_content:
        if name in CONTENT_KEYS:
            return Kind.CONTENT
        if name in _QUOTING:
            return Kind.QUOTING
    if is_address_name(name):
        return Kind.ADDRESS
    return Kind.PATH if canonical(name) in _PATHS else Kind.PLAIN


def spares(names: Names, name: object, value: object) -> bool:
    """Whether a value is none of the secrets that its name announces."""
    return isinstance(value, (str, int)) and isinstance(name, str) and names.spares(_without_prefix(name), str(value))


def _without_prefix(name: str) -> str:
    for prefix in _HEADER_ATTRIBUTES:
        name = name.removeprefix(prefix)
    return name
