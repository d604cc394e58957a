"""The cleaning of events, tags and attributes: what their names say, at any depth.

- What is returned holds no secret that the rules know, no text beyond the limit, and no address where there is a key.
- What is harmless comes back as the same object: most values of most events have been seen before, and cost one look.
- What can't be cleaned does not leave: the event is dropped and counted, tags and texts are left out.
- Nothing changes here but the memories; threads that race there do some work twice, no more.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from opentelemetry.util.types import AnyValue

from ..events.codec import Row
from ..events.jsonsafe import JSON, MAX_DEPTH, json_safe
from ..events.tally import PRIVACY_ERROR, TALLY
from ..semconv import HTTP_ROUTE
from ..settings.mask import MASK
from ..settings.once import log_once
from ..settings.privacy import PrivacySettings
from .announced import VALUE_OF, is_secret_place
from .cards import is_card_number
from .hashed_addresses import AddressHash, literals
from .kinds import Kind, kind_of, spares
from .paths import mask_route_values, names_secrets
from .plain import IPV4, Plain, Verdict
from .processors import processed
from .quoted_content import CONTENT_KEYS_OF, MATCH_KEYS
from .sensitive_names import Names
from .texts import LOOKAHEAD, MEMORABLE, MEMORY, Hashing, Texts, free_name, shorten

_logger = logging.getLogger(__name__)

_SHORTEST_NAME = 64
"""Bytes that a name may have however small the limit of a string is: the contract's names have to stay."""
_MADE_BY_US = frozenset({"timestamp", "idempotency_key"})
"""Fields of an event that `codec` makes whatever was given, so that nothing else can be in them."""
_VALUE_OF = {**VALUE_OF, **{label.title(): value.title() for label, value in VALUE_OF.items()}}
_ANNOUNCED = frozenset(_VALUE_OF.values())
_SMALLEST_CARD, _LARGEST_CARD = 10**13, 10**16
"""Integers of 14 to 16 digits are looked at; longer ones are identifiers far more often than cards."""
_NUMBERS = (int, float, bool)
_MOST_ADDRESSES = 32
"""Addresses of one event that are looked for in its texts; where it names more, all IP addresses in them are hashed."""


class _Known(NamedTuple):
    """What is known of a name: the kind of its values, and the name as it may leave the process."""

    kind: Kind
    name: str


class Privacy:
    """Cleans events and texts under one set of settings."""

    def __init__(self, settings: PrivacySettings | None = None) -> None:
        """Clean under `settings`, or under the defaults."""
        self.settings = settings = settings or PrivacySettings()
        self._names = Names(settings.sensitive_headers)
        self._limit = settings.max_payload_size
        self._hash = AddressHash(settings.address_key) if settings.address_key else None
        self._in_prose = self._hash.in_prose if self._hash else None
        self._mask = shorten(MASK, self._limit)
        self._names_limit = max(self._limit, _SHORTEST_NAME)
        self._texts = Texts(self._names, self._limit, self._hash, self._json)
        self._known_paths, self._known_addresses = (self._texts.harmless[kind] for kind in (Kind.PATH, Kind.ADDRESS))
        self._of_names = self._texts
        if self._names_limit > self._limit:
            self._of_names = Texts(self._names, self._names_limit, self._hash, self._json)
        self._known_names: dict[str, _Known] = {}
        # By name, for names that stay as they are: the harmless values of their kind.
        self._known_values: dict[str, set[str]] = {}
        self._harmless_routes: set[str] = set()
        self._plain: Plain | None = None
        self._judges = not settings.processors and self._hash is None

    def with_limit(self, max_payload_size: int) -> Privacy:
        """Return the same privacy with another size limit of a string, in bytes."""
        return Privacy(replace(self.settings, max_payload_size=max_payload_size))

    def event(self, row: Row) -> Row | None:
        """Return an event as it may leave the process, None where it must not; the drop is counted and said once."""
        made = self.processed(row)
        return None if made is None else self.cleaned(made)

    def processed(self, row: Row) -> Row | None:
        """Return what the user's processors make of an event; they are first, so that what they add is cleaned too."""
        return processed(row, self.settings.processors, self.text) if self.settings.processors else row

    def hashed_client(self, row: Row) -> str | None:
        """Return by what name the client of an event that isn't cleaned is counted, None where addresses stay."""
        return None if self._hash is None else self._hash.of_client(row.get("ip_address"))

    def cleaned(self, row: Row) -> Row | None:
        """Return an event as it may leave the process without asking the processors, which have seen it."""
        try:
            hashing = self._hashing(row) if self._hash else None
            content = None if self.settings.capture_content else CONTENT_KEYS_OF.get(str(row.get("event_type")))
            metadata = row.get("metadata")
            if content and isinstance(metadata, dict) and not content.isdisjoint(metadata):
                row = {**row, "metadata": {key: value for key, value in metadata.items() if key not in content}}
            if isinstance(route := row.get("endpoint"), str) and names_secrets(route, self._names):
                row = self._without_route_values(row, route)
            return self._mapping(row, 0, hashing)
        except Exception as error:  # noqa: BLE001  what can't be cleaned must neither leak nor vanish silently
            TALLY.drop("events", PRIVACY_ERROR)
            _complain("security events", error)
            return None

    def judge(self, fields: Mapping[str, object], *, dated: bool = False) -> Verdict:
        """Say what is certain of an event of which all fields of the contract are given, and no other.

        Args:
            fields: of the event.
            dated: whether key and time are known to be what a row holds.
        """
        if not self._judges:
            return Verdict.UNCERTAIN
        try:
            if self._plain is None:
                self._plain = Plain(self._names, self._texts, self._limit, self._plain_kind)
            return self._plain.of(fields, dated)
        except Exception:  # noqa: BLE001  what can't be judged is cleaned, which tells what is wrong
            return Verdict.UNCERTAIN

    def _plain_kind(self, name: str) -> Kind | None:
        """Return the kind of a name's values, None where they are to be looked at."""
        kind, clean_name = self._known(name)
        told_beside = name in _ANNOUNCED or name == "pattern"
        return None if told_beside or clean_name != name or kind in (Kind.SECRET, Kind.CONTENT) else kind

    def text(self, text: str) -> str:
        """Return a text without secrets and in at most `max_payload_size` bytes."""
        return self._surely(text, Kind.PLAIN)

    def path(self, path: str) -> str:
        """Return a URL or a path without secrets, also without segments that look like keys."""
        return self._surely(path, Kind.PATH)

    def message(self, message: str) -> str:
        """Return the message of a log record: without secrets, and where addresses are hashed, any address too."""
        return self._surely(message, Kind.PLAIN, self._in_prose)

    def body(self, body: AnyValue) -> AnyValue:
        """Return the body of a log record without secrets and such addresses at any depth; for texts see `message`."""
        return self._attribute(body, Kind.PLAIN, self._in_prose)

    def changes(self, attributes: Mapping[str, AnyValue], *, quoting: bool = False) -> dict[str, AnyValue]:
        """Return those of a span's attributes that hold a secret or an address to be hashed, without it.

        Where they are `quoting` others, as a stack trace does, any address in them is a client's.
        """
        changes: dict[str, AnyValue] = {}
        known_values = self._known_values
        hashing = self._hashing(attributes, quoting=quoting) if self._hash else None
        for name, value in attributes.items():
            clean: AnyValue
            if type(value) is str:
                harmless = known_values.get(name)
                if harmless is not None and value in harmless and (hashing is None or hashing(value) == value):
                    continue
                clean = self._value(value, self._kind_with(value, self._known(name).kind, name), 0, hashing)
            elif type(value) not in _NUMBERS and isinstance(value, (tuple, list, Mapping)):
                clean = self._attribute(value, self._known(name).kind, hashing)
            else:
                continue
            if clean != value:
                changes[name] = clean
        return changes

    def knows(self, path: str, attributes: Mapping[str, AnyValue]) -> bool:
        """Whether `path`, `changes` and `route_changes` surely leave a name and attributes as they are.

        Nearly all of it was seen before; what a client chooses may be made of what was.
        """
        paths = self._known_paths
        if path not in paths or self._hash is not None:
            return False
        known, addresses = self._known_values, self._known_addresses
        unknown: list[str] = []
        for name, value in attributes.items():
            if type(value) is str:
                harmless = known.get(name)
                if harmless is None:
                    return False
                if value not in harmless:
                    if harmless is paths:
                        unknown.append(value)
                    elif harmless is not addresses or not IPV4.fullmatch(value):
                        return False
                if name == HTTP_ROUTE and value not in self._harmless_routes:
                    return False
            elif type(value) not in _NUMBERS:
                return False
        return not unknown or self._texts.familiar.has_all(unknown)

    def route_changes(self, attributes: Mapping[str, AnyValue], route: object) -> dict[str, AnyValue]:
        """Return those of the attributes that are paths or URLs with a secret by the template of their route."""
        if not isinstance(route, str):
            return {}
        if not names_secrets(route, self._names):
            if len(route) <= MEMORABLE:
                if len(self._harmless_routes) >= MEMORY:
                    self._harmless_routes.clear()
                self._harmless_routes.add(route)
            return {}
        changes: dict[str, AnyValue] = {}
        for name, value in attributes.items():
            if type(value) is str and value != route and self._known(name).kind is Kind.PATH:
                masked = mask_route_values(value[: self._limit + LOOKAHEAD + 1], route, self._names)
                if MASK in masked and masked != value:
                    changes[name] = masked
        return changes

    def address(self, address: str) -> str:
        """Return a client's address: under the key where there is one, else as it is."""
        return self._surely(address, Kind.ADDRESS)

    def tags(self, tags: dict[str, JSON]) -> dict[str, JSON]:
        """Return the tags of a metric, or any other mapping of names to values, as it may leave the process."""
        try:
            return self._mapping(tags, 1, self._hashing(tags) if self._hash else None)
        except Exception as error:  # noqa: BLE001  what can't be cleaned must not leak
            _complain("tags", error)
            return {}

    def _surely(self, text: str, kind: Kind, hashing: Hashing = None) -> str:
        try:
            return self._texts.clean(text, kind, 0, hashing)
        except Exception as error:  # noqa: BLE001  what can't be cleaned must not leak
            _complain("texts", error)
            return self._mask

    def _json(self, value: JSON, depth: int) -> JSON:
        """Return what a JSON text holds without secrets; addresses have been hashed in the text."""
        return self._value(value, Kind.PLAIN, depth, None)

    def _hashing(self, row: Mapping[str, AnyValue], *, quoting: bool = False) -> Hashing:
        """Return what hashes the client addresses that an event names in its other texts; the longest first."""
        if self._hash is None:
            return None
        found: set[str] = set()
        metadata = row.get("metadata")
        for mapping in (row, metadata if isinstance(metadata, dict) else {}):
            for name, value in mapping.items():
                if self._known(name).kind is Kind.ADDRESS:
                    for text in value if isinstance(value, (list, tuple)) else (value,):
                        if isinstance(text, str):
                            found.update(literals(text[: self._limit + LOOKAHEAD]))
        in_prose = self._hash.in_prose
        if not found or len(found) > _MOST_ADDRESSES:
            return in_prose if found or quoting else None
        in_text = partial(self._hash.in_text, addresses=sorted(found, key=len, reverse=True))
        return (lambda text: in_prose(in_text(text))) if quoting else in_text

    def _without_route_values(self, row: Row, route: str) -> Row:
        """Return an event whose endpoint is a route's template without the secrets in the paths that it also tells."""
        metadata = row.get("metadata")
        changes: Row = dict(self.route_changes(row, route))  # type: ignore[arg-type]  # texts alone are changed
        if isinstance(metadata, dict) and (inner := self.route_changes(metadata, route)):
            changes["metadata"] = {**metadata, **inner}  # type: ignore[dict-item]
        return {**row, **changes} if changes else row

    def _attribute(self, value: AnyValue, kind: Kind, hashing: Hashing) -> AnyValue:
        """Return a value of OpenTelemetry's without secrets, the same object where there are none."""
        if isinstance(value, tuple) and not any(isinstance(item, (tuple, list, Mapping)) for item in value):
            return tuple(self._value(item, kind, 0, hashing) if type(item) is str else item for item in value)
        safe = json_safe(value)
        cleaned = self._value(safe, kind, 0, hashing)
        return value if cleaned == safe else cleaned

    def _known(self, name: str) -> _Known:
        known = self._known_names.get(name)
        if known is None:
            kind = kind_of(name, self._names, capture_content=self.settings.capture_content)
            known = _Known(kind, self._of_names.clean(name, Kind.PLAIN))
            if len(name) <= MEMORABLE:
                if len(self._known_names) >= MEMORY:
                    self._known_names.clear()
                    self._known_values.clear()
                self._known_names[name] = known
                if known.name == name and kind not in (Kind.SECRET, Kind.CONTENT):
                    self._known_values[name] = self._texts.harmless[kind]
        return known

    def _mapping(self, mapping: dict[str, JSON], depth: int, hashing: Hashing) -> dict[str, JSON]:
        """Return a mapping without secrets, the same object where there are none."""
        updates: dict[str, JSON] = {}
        names: dict[str, str] = {}
        gone: set[str] = set()
        known_values = self._known_values
        for name, value in mapping.items():
            # Most values of most events have been seen before, or are made by us: this spares them all else.
            harmless = known_values.get(name)
            if harmless is not None:
                if type(value) is str:
                    seen = value in harmless or (depth == 0 and name in _MADE_BY_US)
                    if seen and (hashing is None or hashing(value) == value):
                        continue
                elif type(value) is int and value < _SMALLEST_CARD:
                    continue
            kind, clean_name = self._known(name)
            if clean_name != name:
                names[name] = clean_name
            if kind is Kind.CONTENT:
                gone.add(name)
                continue
            clean = self._value(value, self._kind_with(value, kind, name), depth, hashing)
            if clean is not value:
                updates[name] = clean
        for label, announced in () if mapping.keys().isdisjoint(_ANNOUNCED) else _VALUE_OF.items():
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
                    free = free_name(free, self._names_limit, (mapping, result), numbers)
                result[free] = updates.get(name, value)
        return result

    def _announces_secret(self, label: JSON) -> bool:
        """Whether a label, or the `loc` of a validation error, names a secret: that of the value beside it."""
        if isinstance(label, list):
            return is_secret_place(label, self._names)
        return isinstance(label, str) and label in self._names

    def _value(self, value: JSON, kind: Kind, depth: int, hashing: Hashing) -> JSON:
        if kind is Kind.SECRET:
            return self._masked(value)
        if type(value) is str:
            return self._texts.clean(value, kind, depth, hashing)
        if isinstance(value, (dict, list)):
            if depth >= 2 * MAX_DEPTH:
                return "[nested too deep]"
            if isinstance(value, dict):
                return self._mapping(value, depth + 1, hashing)
            return self._sequence(value, kind, depth + 1, hashing)
        if type(value) is int and _SMALLEST_CARD <= value < _LARGEST_CARD and is_card_number(str(value)):
            return self._mask
        return value

    def _kind_with(self, value: AnyValue, kind: Kind, name: str) -> Kind:
        """Return the kind of a value, given that of its name."""
        return Kind.PLAIN if kind is Kind.SECRET and spares(self._names, name, value) else kind

    def _masked(self, value: JSON, name: JSON = None) -> JSON:
        """Return the mask for a secret; that there is none (null, a flag, no text) is no secret."""
        if value is None or isinstance(value, bool) or value == "" or value == self._mask:
            return value
        if name is not None and spares(self._names, name, value):
            return value
        return self._mask

    def _sequence(self, items: list[JSON], kind: Kind, depth: int, hashing: Hashing) -> list[JSON]:
        if len(items) == 2 and isinstance(items[0], str) and items[0] in self._names:
            # A header as a pair of name and value, as ASGI and WSGI have them.
            masked = self._masked(items[1], items[0])
            return items if masked is items[1] else [items[0], masked]
        if len(items) == 2 and isinstance(items[0], str) and isinstance(items[1], str) and kind is Kind.PLAIN:
            named = self._known(items[0]).kind
            if named in (Kind.ADDRESS, Kind.PATH):
                clean = self._texts.clean(items[1], named, depth, hashing)
                return items if clean is items[1] else [self._texts.clean(items[0], kind, depth, hashing), clean]
        changed: list[JSON] | None = None
        for position, item in enumerate(items):
            cleaned = self._value(item, kind, depth, hashing)
            if cleaned is not item:
                changed = changed or list(items)
                changed[position] = cleaned
        return items if changed is None else changed


def _complain(what: str, error: Exception) -> None:
    """Say once that cleaning fails, without the error's text, which may quote a secret."""
    log_once(
        _logger,
        logging.ERROR,
        f"{what} that can't be cleaned of secrets are left out, events are counted; the first failed with "
        f"{type(error).__name__}",
        cause=f"uncleanable {what}",
    )
