"""How the value of a setting is read, whether it comes as text from a variable or as an object from code.

A parser takes what was given and returns what the setting is then, or raises
ValueError with what is allowed. It never quotes the value: who calls it knows
whether it may be shown.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit
from uuid import UUID

import orjson

from .once import log_once

_logger = logging.getLogger(__name__)

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

_Word = TypeVar("_Word", bound=str)

_OWN_HEADERS = frozenset(
    {"content-encoding", "content-length", "content-type", "host", "transfer-encoding", "x-payload-signature"}
)
"""Headers that say what is in a request: another value would make the backend misread it."""
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")


def switch(value: object) -> bool:
    """Read ``true`` or ``false``, in any case, or a boolean."""
    word = str(value).strip().lower()
    if word not in ("true", "false"):
        raise ValueError("it must be true or false")
    return word == "true"


def choice(*allowed: _Word) -> Callable[[object], _Word]:
    """Return the parser of one of some words, in any case."""
    by_spelling = {word.lower(): word for word in allowed}

    def parse(value: object) -> _Word:
        found = by_spelling.get(str(value).strip().lower())
        if found is None:
            raise ValueError(f"allowed are {' and '.join(allowed)}")
        return found

    return parse


def whole(lowest: int, highest: int, unit: str = "") -> Callable[[object], int]:
    """Return the parser of a whole number from `lowest` to `highest`."""

    def parse(value: object) -> int:
        try:
            number = lowest - 1 if isinstance(value, (bool, float)) else int(value)  # type: ignore[call-overload]
        except (TypeError, ValueError):
            number = lowest - 1
        if not lowest <= number <= highest:
            raise ValueError(f"it must be a whole number{unit and f' of {unit},'} from {lowest} to {highest}")
        return int(number)

    return parse


def seconds(lowest: float, highest: float = 86_400, *, or_zero: str = "") -> Callable[[object], float]:
    """Return the parser of a number of seconds from `lowest` to `highest`.

    Args:
        lowest: the least number allowed; 0 stands for any number above 0.
        highest: the largest number allowed.
        or_zero: what 0 means, where it is allowed beside them.
    """

    def parse(value: object) -> float:
        number = _float(value)
        if or_zero and number == 0:
            return number
        if not lowest <= number <= highest or number == 0:
            bounds = f"from {lowest:g} to {highest:g}" if lowest else f"more than 0 and at most {highest:g}"
            raise ValueError(f"it must be a number of seconds, {bounds}{or_zero and f', or 0 for {or_zero}'}")
        return number

    return parse


def number(lowest: float, highest: float) -> Callable[[object], float]:
    """Return the parser of a number from `lowest` to `highest`."""

    def parse(value: object) -> float:
        found = _float(value)
        if not lowest <= found <= highest:
            raise ValueError(f"it must be a number from {lowest:g} to {highest:g}")
        return found

    return parse


def share(value: object) -> float:
    """Read a number that is more than 0 and at most 1."""
    number = _float(value)
    if not 0 < number <= 1:
        raise ValueError("it must be a number, more than 0 and at most 1")
    return number


def _float(value: object) -> float:
    try:
        return math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def text(value: object) -> str:
    """Read text, or a whole number as text: in a YAML file a name of digits is a number."""
    if not isinstance(value, (str, int)) or isinstance(value, bool):
        raise ValueError(f"it must be text, not {type(value).__name__}")
    return str(value).strip()


def file_path(value: object) -> str:
    """Read the absolute path of a file, which need not exist yet; ``~`` is the home directory."""
    found = os.path.expanduser(text(value))
    if not os.path.isabs(found) or "\0" in found or os.path.isdir(found):
        raise ValueError("it must be the absolute path of a file, for example /var/log/guard/events.ndjson")
    return found


def secret(value: object) -> str:
    """Read text that UTF-8 can encode and that is not blank."""
    found = text(value)
    if not found:
        raise ValueError("it must not be blank")
    try:
        found.encode()
    except UnicodeEncodeError:
        raise ValueError("it must be valid UTF-8") from None
    return found


def header_text(value: object) -> str:
    """Read text that can travel in a request header."""
    found = text(value)
    if not found or not found.isascii() or not found.isprintable():
        raise ValueError("it must be printable ASCII text, since it travels in a request header")
    return found


def short_header_text(value: object) -> str:
    """Read a name or a release: text for a header, of at most 256 characters."""
    found = header_text(value)
    if len(found) > 256:
        raise ValueError("it must be at most 256 characters long")
    return found


def headers(value: object) -> Mapping[str, str]:
    """Read request headers: a mapping, a list of mappings with ``name`` and ``value``, or ``name=value,name=value``."""
    if isinstance(value, str):
        given: Mapping[Any, object] = _header_pairs(value)
    elif isinstance(value, Mapping):
        given = value
    elif isinstance(value, (list, tuple)) and all(isinstance(item, Mapping) for item in value):
        given = {item.get("name"): item.get("value") for item in value}
    else:
        raise ValueError("it must be a mapping of header names to values")
    for position, (name, found) in enumerate(given.items(), 1):
        # Neither is shown: in "Bearer abc" instead of "Authorization=Bearer abc" the secret stands in the name's place.
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"header {position} of {len(given)} has a name that is not a header name (RFC 9110)")
        if found is None:
            raise ValueError(f"header {position} of {len(given)} has no value")
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"the header {name} is the exporter's own")
    return {str(name): header_text(found) for name, found in given.items()}


def _header_pairs(given: str) -> dict[str, str]:
    """Read ``name=value,name=value`` with URL-encoded values.

    The SDK's own parser logs what it can't read, and headers may be secrets.
    """
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in given.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError("it must be name=value pairs, separated by commas; a comma in a value is written %2C")
        pairs[unquote(name).strip().lower()] = unquote(value).strip()
    if not pairs:
        raise ValueError("it must be name=value pairs, separated by commas")
    return pairs


def paths(value: object) -> tuple[str, ...]:
    """Read paths, each with a slash at its beginning, from a list or from text with commas."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, Iterable) or isinstance(items, (bytes, Mapping)):
        raise ValueError("it must be paths, as a list or separated by commas")
    found = tuple(str(item).strip() for item in items if str(item).strip())
    if not all(path.startswith("/") for path in found):
        raise ValueError("it must be paths, each of which begins with /")
    return found


def header_names(value: object) -> frozenset[str]:
    """Read names of headers, from a list or from text with commas, in lower case."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, Iterable) or isinstance(items, (bytes, Mapping)):
        raise ValueError("it must be names of headers, as a list or separated by commas")
    names = list(items)
    if not all(isinstance(name, str) for name in names):
        raise ValueError("it must be names of headers, each of them text")
    found = frozenset(name.strip().lower() for name in names if name.strip())
    if isinstance(value, str) and not found:
        raise ValueError("it must be at least one name of a header")
    return found


def http_parts(text: str) -> SplitResult | None:
    """Return the parts of a URL of HTTP with a host; None where it is none, or has a user, password or fragment."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or parts.scheme not in ("http", "https") or parts.fragment or "@" in parts.netloc:
        return None
    return None if any(character.isspace() for character in text) else parts


def base_url(value: object) -> str:
    """Read the base URL of a backend; return it without ``/api/v1`` and without a trailing slash.

    A path that is taken off is said once.
    """
    given = str(value).strip()
    parts = http_parts(given)
    if parts is None or parts.query:
        raise ValueError("it must be a URL like https://guard.example.com, without user, password, query and fragment")
    base = parts.path.rstrip("/").removesuffix("/api/v1").rstrip("/")
    if base != parts.path.rstrip("/"):
        log_once(
            _logger,
            logging.WARNING,
            f"the Guard endpoint's path {parts.path!r} was shortened to {base or '(none)'!r}: set the bare base URL, "
            "the exporters add /api/v1 themselves",
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{base}"


def queue_url(value: object) -> str:
    """Read the URL of a queue; whether there is such a queue is for `opentelemetry_guard.queue` to say."""
    found = str(value).strip()
    if "://" not in found:
        raise ValueError("it must be a URL like sqlite:///var/lib/app/queue.db or memory://")
    return found


def store_url(value: object) -> str:
    """Read the URL of what processes share: an SQLite file, Redis, or ``memory://`` for nothing."""
    found = str(value).strip()
    scheme, colon, rest = found.partition("://")
    known = scheme.lower() in ("sqlite", "redis", "rediss", "redis+sentinel", "redis+cluster", "memory")
    if not colon or not known or (scheme.lower() == "sqlite" and not (rest.startswith("/") and rest.strip("/"))):
        raise ValueError("it must be a URL like redis://host/0, sqlite:///var/lib/app/behavior.db or memory://")
    return found


def readable_file(value: object) -> str:
    """Read the path of a file that this process can read; ``~`` is the home directory."""
    path = os.path.expanduser(str(value).strip())
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        raise ValueError("it must be the path of a file that this process can read")
    return path


def uuid(value: object) -> str:
    """Read a UUID in any of its spellings."""
    try:
        return str(UUID(str(value).strip()))
    except ValueError:
        raise ValueError("it must be a UUID") from None


def networks(value: object) -> tuple[Network, ...]:
    """Read addresses and networks, from a list or from text with commas."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)):
        raise ValueError("it must be addresses or networks, separated by commas")
    return tuple(ipaddress.ip_network(str(item).strip(), strict=False) for item in items if str(item).strip())


def json_object(value: object) -> Mapping[str, object]:
    """Read a mapping, a JSON object, or the path of a file that holds one."""
    if isinstance(value, str):
        value = _loaded(value)
    if not isinstance(value, Mapping):
        raise ValueError("it must be a JSON object, or the path of a file that holds one")
    return value


def _loaded(given: str) -> object:
    try:
        return orjson.loads(given if given.lstrip().startswith("{") else Path(given).expanduser().read_bytes())
    except (OSError, ValueError) as error:
        # The text of an OSError quotes what was given, which may be a key.
        why = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"it must be a JSON object, or the path of a file that holds one ({why})") from None
