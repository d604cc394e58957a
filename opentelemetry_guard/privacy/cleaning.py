"""The cleaning of events, texts and attributes."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

import orjson
from opentelemetry.util.types import AnyValue

from ..events import codec
from ..events.codec import Row
from ..events.jsonsafe import JSON, MAX_DEPTH, describe, json_safe
from ..events.tally import FILTERED, PRIVACY_ERROR, PROCESSOR_ERROR, TALLY
from ..models import SecurityEvent
from ..settings.mask import MASK
from ..settings.once import log_once
from ..settings.privacy import PrivacySettings, Processor
from .announced import VALUE_OF
from .cards import is_card_number
from .hashed_addresses import AddressHash, is_address_name, literals
from .quoted_content import CONTENT_KEYS, CONTENT_KEYS_OF, MATCH_KEYS, without_content
from .route_values import mask_route_values, names_secrets
from .secrets_in_text import HASHED_ADDRESS, mask, mask_path, mask_query
from .sensitive_names import Names, canonical
from .shortening import fits, shorten
from .validation_errors import is_secret_place

_logger = logging.getLogger(__name__)

LOOKAHEAD = 256
"""Characters beyond the size limit that are searched for secrets; what is still longer is not looked at."""
_MARGIN = 64
"""Characters before such a cut that are left out: a secret that the cut goes through may be too short to recognise."""
_PASSES = 4
"""How often a text is cleaned until it stays; what does not stay is masked as a whole."""
_MEMORY = 2048
"""Harmless texts of each kind, and names, that are remembered; a client can send any number of them."""
_SHORTEST_NAME = 64
"""Bytes that a name may have however small the limit of a string is: the contract's names have to stay."""
_MEMORABLE = 200
"""Characters of a text that is worth remembering for long."""
_LONG_MEMORY = 16
"""Longer harmless texts of each kind that are remembered: a span is cleaned at its start and again at its end."""


class _Kind(Enum):
    """What a name says about its value."""

    PLAIN = "text"
    PATH = "a URL or a path"
    QUOTING = "text in which guard-core quotes the request"
    ADDRESS = "client addresses"
    ID = "an identifier or a time, which stays as it is"
    SECRET = "a secret"  # noqa: S105  a kind, not a secret
    CONTENT = "a quotation of the request"


_PATHS = frozenset(
    canonical(name)
    for name in """
    endpoint url uri path href location target referer referrer url.full url.path http.url http.target http.route
    request-url request-uri request-path raw-path full-path document-uri blocked-uri source-file redirect-url
    url.query query query-string http.query
    """.split()  # noqa: SIM905  words read better than a column of strings
)
_IDS = frozenset({"timestamp", "idempotency_key", "trace_id", "span_id", "traceparent", "batch_id", "correlation_id"})
_MADE_BY_US = frozenset({"timestamp", "idempotency_key"})
"""Fields of an event that `codec` makes whatever was given, so that nothing else can be in them."""
_ID = re.compile(r"[0-9A-Fa-f-]{8,64}|[0-9]{4}-[0-9T:.Z+-]{6,36}")
_QUOTING = frozenset({"reason", "trigger_info", "context", "guard.reason"})
_VALUE_OF = {**VALUE_OF, **{label.title(): value.title() for label, value in VALUE_OF.items()}}
_ANNOUNCED = frozenset(_VALUE_OF.values())
_HEADER_ATTRIBUTES = ("http.request.header.", "http.response.header.")
"""What a span puts in front of the names of headers."""
_SMALLEST_CARD, _LARGEST_CARD = 10**13, 10**16
"""Integers of 14 to 16 digits are looked at; longer ones are identifiers far more often than cards."""
_NO_ADDRESSES: tuple[str, ...] = ()
_MOST_ADDRESSES = 32
"""Addresses of one event that are looked for in its texts; where it names more, all IP addresses in them are hashed."""


class _Known(NamedTuple):
    """What is known of a name: the kind of its values, and the name as it may leave the process."""

    kind: _Kind
    name: str


class Privacy:
    """Cleans events and texts under one set of settings.

    Nothing here changes but memories of what is harmless; threads that race there do some work twice, no more.
    """

    def __init__(self, settings: PrivacySettings | None = None) -> None:
        """Clean under `settings`, or under the defaults."""
        self.settings = settings = settings or PrivacySettings()
        self._names = Names(settings.sensitive_headers)
        self._limit = settings.max_payload_size
        self._mask = shorten(MASK, self._limit)
        self._names_limit = max(self._limit, _SHORTEST_NAME)
        self._for_names = self if self._limit == self._names_limit else self.with_limit(self._names_limit)
        self._hash = AddressHash(settings.address_key) if settings.address_key else None
        self._harmless: dict[_Kind, set[str]] = {kind: set() for kind in _Kind}
        self._harmless_long: dict[_Kind, set[str]] = {kind: set() for kind in _Kind}
        self._kinds: dict[str, _Known] = {}
        # By name, for names that stay as they are: the harmless values of their kind.
        self._known_values: dict[str, set[str]] = {}

    def with_limit(self, max_payload_size: int) -> Privacy:
        """Return the same privacy with another size limit of a string, in bytes."""
        return Privacy(replace(self.settings, max_payload_size=max_payload_size))

    def event(self, row: Row) -> Row | None:
        """Return an event as it may leave the process, or None where it must not; the drop is counted and said once.

        The user's processors see it first, so that what they add is cleaned too.
        """
        if self.settings.processors:
            processed = self._processed(row)
            if processed is None:
                return None
            row = processed
        return self.cleaned(row)

    def cleaned(self, row: Row) -> Row | None:
        """Return an event as it may leave the process without asking the processors, which have seen it."""
        try:
            addresses = self._addresses(row) if self._hash else _NO_ADDRESSES
            content = None if self.settings.capture_content else CONTENT_KEYS_OF.get(str(row.get("event_type")))
            metadata = row.get("metadata")
            if content and isinstance(metadata, dict) and not content.isdisjoint(metadata):
                row = {**row, "metadata": {key: value for key, value in metadata.items() if key not in content}}
            return self._mapping(self._without_route_values(row), 0, addresses)
        except Exception as error:  # noqa: BLE001  what can't be cleaned must neither leak nor vanish silently
            TALLY.drop("events", PRIVACY_ERROR)
            _complain("security events", error)
            return None

    def _without_route_values(self, row: Row) -> Row:
        """Return an event whose endpoint is a route's template without the secrets in the paths that it also tells."""
        route, metadata = row.get("endpoint"), row.get("metadata")
        if not names_secrets(route, self._names):
            return row
        changes: Row = dict(self.route_changes(row, route))  # type: ignore[arg-type]  # texts alone are changed
        if isinstance(metadata, dict) and (inner := self.route_changes(metadata, route)):
            changes["metadata"] = {**metadata, **inner}  # type: ignore[dict-item]
        return {**row, **changes} if changes else row

    def text(self, text: str) -> str:
        """Return a text without secrets and in at most `max_payload_size` bytes."""
        return self._surely(text, _Kind.PLAIN)

    def message(self, message: str) -> str:
        """Return the message of a log record: without secrets, and where addresses are hashed, any address too."""
        if self._hash is None:
            return self.text(message)
        # Longer than what `text` looks at, so that it sees that there was more.
        return self.text(self._hash.in_prose(message[: self._limit + LOOKAHEAD + 1]))

    def value(self, value: AnyValue) -> AnyValue:
        """Return the body of a log record, or an attribute's value, without secrets at any depth; texts see `text`."""
        return self._attribute(value, _Kind.PLAIN)

    def path(self, path: str) -> str:
        """Return a URL or a path without secrets, also without segments that look like keys."""
        return self._surely(path, _Kind.PATH)

    def changes(self, attributes: Mapping[str, AnyValue], *, quoting: bool = False) -> dict[str, AnyValue]:
        """Return those of a span's attributes that hold a secret or an address to be hashed, without it.

        Where they are `quoting` others, as a stack trace does, any address in them is a client's.
        """
        changes: dict[str, AnyValue] = {}
        known_values = self._known_values
        addresses = self._addresses(attributes) if self._hash else _NO_ADDRESSES
        in_prose = self._hash.in_prose if self._hash and quoting else None
        for name, value in attributes.items():
            if type(value) is str:
                harmless = known_values.get(name)
                plain = in_prose(value[: self._limit + LOOKAHEAD + 1]) if in_prose else value
                if (
                    harmless is not None
                    and value in harmless
                    and plain == value
                    and not (addresses and _may_hold(value, addresses))
                ):
                    continue
                clean: AnyValue = self._value(plain, self._kind_with(value, self._known(name).kind, name), 0, addresses)
            elif isinstance(value, (tuple, list, Mapping)):
                clean = self._attribute(value, self._known(name).kind, addresses)
            else:
                continue
            if clean != value:
                changes[name] = clean
        return changes

    def route_changes(self, attributes: Mapping[str, AnyValue], route: object) -> dict[str, AnyValue]:
        """Return those of the attributes that are paths or URLs with a secret by the template of their route."""
        if not isinstance(route, str) or not names_secrets(route, self._names):
            return {}
        changes: dict[str, AnyValue] = {}
        for name, value in attributes.items():
            if type(value) is str and value != route and self._known(name).kind is _Kind.PATH:
                masked = mask_route_values(value[: self._limit + LOOKAHEAD + 1], route, self._names)
                if MASK in masked and masked != value:
                    changes[name] = masked
        return changes

    def _attribute(self, value: AnyValue, kind: _Kind, addresses: tuple[str, ...] = _NO_ADDRESSES) -> AnyValue:
        """Return a value of OpenTelemetry's without secrets, the same object where there are none."""
        if isinstance(value, tuple) and not any(isinstance(item, (tuple, list, Mapping)) for item in value):
            return tuple(self._value(item, kind, 0, addresses) if type(item) is str else item for item in value)
        safe = json_safe(value)
        cleaned = self._value(safe, kind, 0, addresses)
        return value if cleaned == safe else cleaned

    def address(self, address: str) -> str:
        """Return a client's address: under the key where there is one, else as it is."""
        return self._surely(address, _Kind.ADDRESS)

    def tags(self, tags: dict[str, JSON]) -> dict[str, JSON]:
        """Return the tags of a metric, or any other mapping of names to values, as it may leave the process."""
        try:
            return self._mapping(tags, 1, self._addresses(tags) if self._hash else _NO_ADDRESSES)
        except Exception as error:  # noqa: BLE001  what can't be cleaned must not leak
            _complain("tags", error)
            return {}

    def _surely(self, text: str, kind: _Kind) -> str:
        try:
            return self._string(text, kind, 0, _NO_ADDRESSES)
        except Exception as error:  # noqa: BLE001  what can't be cleaned must not leak
            _complain("texts", error)
            return self._mask

    def _processed(self, row: Row) -> Row | None:
        for processor in self.settings.processors:
            try:
                result = processor(_as_event(row))
                if result is None:
                    TALLY.drop("events", FILTERED)
                    return None
                row = _as_row(result, row)
            except Exception as error:  # noqa: BLE001  a user's code may raise anything, and the request must not see it
                TALLY.drop("events", PROCESSOR_ERROR)
                log_once(
                    _logger,
                    logging.ERROR,
                    f"events are dropped and counted because the processor {_name(processor)} fails; the first failed "
                    f"with {type(error).__name__}: {self.text(describe(error))}",
                    cause=f"failing processor {_name(processor)}",
                )
                return None
        return row

    def _addresses(self, row: Mapping[str, AnyValue]) -> tuple[str, ...]:
        """Return the client addresses that an event names, to be found in its other texts; the longest first."""
        found: set[str] = set()
        metadata = row.get("metadata")
        for mapping in (row, metadata if isinstance(metadata, dict) else {}):
            for name, value in mapping.items():
                if self._known(name).kind is _Kind.ADDRESS:
                    for text in value if isinstance(value, (list, tuple)) else (value,):
                        if isinstance(text, str):
                            found.update(literals(text[: self._limit + LOOKAHEAD]))
        return tuple(sorted(found, key=len, reverse=True))

    def _known(self, name: str) -> _Known:
        known = self._kinds.get(name)
        if known is None:
            kind = self._decide(name)
            known = _Known(kind, self._for_names._string(name, _Kind.PLAIN, 0, _NO_ADDRESSES))
            if len(name) <= _MEMORABLE:
                if len(self._kinds) >= _MEMORY:
                    self._kinds.clear()
                    self._known_values.clear()
                self._kinds[name] = known
                if known.name == name and kind not in (_Kind.SECRET, _Kind.CONTENT):
                    self._known_values[name] = self._harmless[kind]
        return known

    def _decide(self, name: str) -> _Kind:
        for prefix in _HEADER_ATTRIBUTES:
            name = name.removeprefix(prefix)
        if name in self._names:
            return _Kind.SECRET
        if name in _IDS:
            return _Kind.ID
        if name in CONTENT_KEYS and not self.settings.capture_content:
            return _Kind.CONTENT
        if name in _QUOTING and not self.settings.capture_content:
            return _Kind.QUOTING
        if is_address_name(name):
            return _Kind.ADDRESS
        return _Kind.PATH if canonical(name) in _PATHS else _Kind.PLAIN

    def _mapping(self, mapping: dict[str, JSON], depth: int, addresses: tuple[str, ...]) -> dict[str, JSON]:
        """Return a mapping without secrets, the same object where there are none."""
        updates: dict[str, JSON] = {}
        names: dict[str, str] = {}
        gone: set[str] = set()
        known_values = self._known_values
        for name, value in mapping.items():
            if type(value) is str:
                # Most values of most events have been seen before, or are made by us: this spares them all else.
                harmless = known_values.get(name)
                if (
                    harmless is not None
                    and (value in harmless or (depth == 0 and name in _MADE_BY_US))
                    and not (addresses and _may_hold(value, addresses))
                ):
                    continue
            kind, clean_name = self._known(name)
            if clean_name != name:
                names[name] = clean_name
            if kind is _Kind.CONTENT:
                gone.add(name)
                continue
            clean = self._value(value, self._kind_with(value, kind, name), depth, addresses)
            if clean is not value:
                updates[name] = clean
        for label, announced in _VALUE_OF.items() if not _ANNOUNCED.isdisjoint(mapping) else ():
            if label in mapping and announced in mapping and self._announces_secret(mapping[label]):
                updates[announced] = self._masked(mapping[announced], mapping[label])
        if "pattern" in mapping and not self.settings.capture_content:
            gone.update(name for name in MATCH_KEYS & mapping.keys() if isinstance(mapping[name], str))
        if not updates and not names and not gone:
            return mapping
        result: dict[str, JSON] = {}
        numbers: dict[str, int] = {}
        for name, value in mapping.items():
            if name not in gone:
                free = names.get(name, name)
                if names and (free in result or (free != name and free in mapping)):
                    free = self._free(free, mapping, result, numbers)
                result[free] = updates.get(name, value)
        return result

    def _announces_secret(self, label: JSON) -> bool:
        """Whether a label, or the `loc` of a validation error, names a secret: that of the value beside it."""
        if isinstance(label, list):
            return is_secret_place(label, self._names)
        return isinstance(label, str) and label in self._names

    def _free(self, name: str, given: Row, taken: Row, numbers: dict[str, int]) -> str:
        """Return a name that is not taken: names that differ in a secret alone are the same when it is masked.

        `numbers` holds where the search for the last one like it ended, so that a thousand like it are no longer
        search each.
        """
        number = numbers.get(name, 2)
        while True:
            suffix = f" ({number})"
            free = shorten(name, self._names_limit - len(suffix)) + suffix
            number += 1
            if free not in given and free not in taken:
                numbers[name] = number
                return free

    def _value(self, value: JSON, kind: _Kind, depth: int, addresses: tuple[str, ...]) -> JSON:
        if kind is _Kind.SECRET:
            return self._masked(value)
        if type(value) is str:
            return self._string(value, kind, depth, addresses)
        if isinstance(value, (dict, list)):
            if depth >= 2 * MAX_DEPTH:
                return "[nested too deep]"
            if isinstance(value, dict):
                return self._mapping(value, depth + 1, addresses)
            return self._sequence(value, kind, depth + 1, addresses)
        if type(value) is int and _SMALLEST_CARD <= value < _LARGEST_CARD and is_card_number(str(value)):
            return self._mask
        return value

    def _kind_with(self, value: AnyValue, kind: _Kind, name: str) -> _Kind:
        """Return the kind of a value, given that of its name."""
        return _Kind.PLAIN if kind is _Kind.SECRET and self._is_spared(name, value) else kind

    def _is_spared(self, name: JSON, value: AnyValue) -> bool:
        """Whether a value is none of the secrets that its name announces."""
        if not isinstance(value, (str, int)) or not isinstance(name, str):
            return False
        for prefix in _HEADER_ATTRIBUTES:
            name = name.removeprefix(prefix)
        return self._names.spares(name, str(value))

    def _masked(self, value: JSON, name: JSON = None) -> JSON:
        """Return the mask for a secret; that there is none (null, a flag, no text) is no secret."""
        if value is None or isinstance(value, bool) or value == "" or value == self._mask:
            return value
        if name is not None and self._is_spared(name, value):
            return value
        return self._mask

    def _sequence(self, items: list[JSON], kind: _Kind, depth: int, addresses: tuple[str, ...]) -> list[JSON]:
        if len(items) == 2 and isinstance(items[0], str) and items[0] in self._names:
            # A header as a pair of name and value, as ASGI and WSGI have them.
            masked = self._masked(items[1], items[0])
            return items if masked is items[1] else [items[0], masked]
        if len(items) == 2 and isinstance(items[0], str) and isinstance(items[1], str) and kind is _Kind.PLAIN:
            named = self._known(items[0]).kind
            if named in (_Kind.ADDRESS, _Kind.PATH):
                clean = self._string(items[1], named, depth, addresses)
                return items if clean is items[1] else [self._string(items[0], kind, depth, addresses), clean]
        changed: list[JSON] | None = None
        for position, item in enumerate(items):
            cleaned = self._value(item, kind, depth, addresses)
            if cleaned is not item:
                changed = changed or list(items)
                changed[position] = cleaned
        return items if changed is None else changed

    def _string(self, original: str, kind: _Kind, depth: int, addresses: tuple[str, ...]) -> str:
        """Return a text without secrets, the same object where there are none."""
        text, cut = original, False
        if len(original) > self._limit + LOOKAHEAD:
            text, cut = original[: self._limit + LOOKAHEAD], True
        if addresses and self._hash:
            many = len(addresses) > _MOST_ADDRESSES
            text = self._hash.in_prose(text) if many else self._hash.in_text(text, addresses)
        harmless = self._harmless[kind]
        if text in harmless or (not cut and text in self._harmless_long[kind]):
            return text
        if (kind is _Kind.ID and _ID.fullmatch(text)) or (
            kind is _Kind.ADDRESS and HASHED_ADDRESS.fullmatch(text) and fits(text, self._limit)
        ):
            return text
        cleaned = text
        for _ in range(_PASSES):
            before, cleaned, cut = cleaned, self._once(cleaned, kind, depth, cut), False
            if cleaned == before:
                break
        else:
            return self._mask
        short = len(cleaned) <= _MEMORABLE
        memory = harmless if short else self._harmless_long[kind]
        if len(memory) >= (_MEMORY if short else _LONG_MEMORY):
            memory.clear()
        memory.add(cleaned)
        return original if cleaned == original else cleaned

    def _once(self, text: str, kind: _Kind, depth: int, cut: bool) -> str:
        """Clean a text once; `cut` says whether something was cut from it before."""
        if len(text) > self._limit + LOOKAHEAD:
            text, cut = text[: self._limit + LOOKAHEAD], True
        if kind is _Kind.ADDRESS and self._hash is not None:
            text = self._hash.in_field(text)
        if kind is _Kind.QUOTING:
            text = without_content(text)
        masked = None if cut or text.lstrip()[:1] not in ("{", "[") else self._json(text, depth)
        if masked is None:
            masked = mask_query(text, self._names) if kind is _Kind.PATH and "=" in text else text
            masked = mask(masked, self._names)
            if kind is _Kind.PATH or "://" in masked or masked[:1] == "/":
                masked = mask_path(masked, self._names)
        if cut:
            return shorten(masked[:-_MARGIN], self._limit, always=True)
        return shorten(masked, self._limit)

    def _json(self, text: str, depth: int) -> str | None:
        """Return JSON text with its values cleaned, None where the text is no JSON."""
        repeated = False

        def collect(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
            nonlocal repeated
            made = dict(pairs)
            repeated = repeated or len(made) < len(pairs)
            return made

        try:
            value = json.loads(text, object_pairs_hook=collect)
            cleaned = self._value(value, _Kind.PLAIN, depth + 1, _NO_ADDRESSES)
            # A name that comes twice has a value that the mapping does not show.
            return text if cleaned is value and not repeated else orjson.dumps(cleaned).decode()
        except (ValueError, TypeError, RecursionError):
            return None


def _may_hold(text: str, addresses: tuple[str, ...]) -> bool:
    return len(addresses) > _MOST_ADDRESSES or any(address in text for address in addresses)


def _complain(what: str, error: Exception) -> None:
    """Say once that cleaning fails, without the error's text, which may quote a secret."""
    log_once(
        _logger,
        logging.ERROR,
        f"{what} that can't be cleaned of secrets are left out, events are counted; the first failed with "
        f"{type(error).__name__}",
        cause=f"uncleanable {what}",
    )


def _as_event(row: Row) -> SecurityEvent:
    """Return a row as the model that processors get; a row is valid, so nothing is validated again."""
    fields: dict[str, object] = {name: value for name, value in row.items() if value is not None}
    fields["timestamp"] = codec.parse_timestamp(row["timestamp"])
    fields.setdefault("metadata", {})
    return SecurityEvent.model_construct(_fields_set=None, **fields)


def _as_row(result: object, before: Row) -> Row:
    """Return what a processor returned as a row; a mapping that does not say so keeps the event's key and time."""
    if not isinstance(result, (SecurityEvent, Mapping)):
        raise TypeError(f"a processor returns an event, a mapping or None, not {type(result).__name__}")
    fields = codec.fields_of(result)
    for name in ("idempotency_key", "timestamp", "event_type"):
        if fields.get(name) is None:
            fields[name] = before[name]
    return codec.to_row(fields)[0]


def _name(processor: Processor) -> str:
    return str(getattr(processor, "__qualname__", type(processor).__name__))
