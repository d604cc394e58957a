"""Says of an event that nothing in it can be a secret, before anything in it is taken apart.

Most events hold a few words, numbers and names that were seen before. All
texts of an event are searched at once for what each rule needs to find
anything (the signs of `secrets_in_text` and `tokens`); where there is none,
and what is left is known to be harmless, `cleaning` would give the event back
as it is, and `codec.to_row` would convert nothing. Whatever is not certain is
left to them.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from enum import IntEnum
from itertools import product
from math import isfinite
from operator import itemgetter

from .announced import ROLES
from .kinds import Kind
from .paths import mask_path
from .quoted_content import CONTENT_KEYS_OF
from .sensitive_names import Names
from .texts import MEMORABLE, MEMORY, Texts


class Verdict(IntEnum):
    """What is certain of an event."""

    UNCERTAIN = 0
    PLAIN = 1
    """It is valid as it is, and cleaning it would change nothing."""
    SPEAKABLE = 2
    """And so is a sentence made of its fields."""


# Looked up at each event; an enumeration takes its time for that.
UNCERTAIN, PLAIN, SPEAKABLE = Verdict.UNCERTAIN, Verdict.PLAIN, Verdict.SPEAKABLE

_LABELS = ("event_type", "action_taken", "method", "decorator_type", "rule_type", "handler_name")
"""Fields with few values: those that were clean before are known."""
_TEXTS = ("user_agent", "reason", "country", "pattern_matched")
_OTHERS = ("idempotency_key", "timestamp", "status_code", "response_time", "metadata", "ip_address", "endpoint")
_labels_of = itemgetter(*_LABELS)
_fields_of = itemgetter(*_OTHERS[2:], *_TEXTS)
_NONE = type(None)
_FLAT = frozenset({int, float, bool, _NONE})
"""Types of values that JSON has beside texts, and that hold no other value."""
_TYPES = frozenset(
    product(
        (int, _NONE), (float, _NONE), (dict,), (str,), (str, _NONE), (str, _NONE), (str,), (str, _NONE), (str, _NONE)
    )
)
"""Types that the fields of `_OTHERS` and `_TEXTS` have in a row, but for key and time: one look for all of these."""
_USUAL = frozenset({None, *range(-1, 256)})
"""Values that many events have, true and false among them, which need not be looked at."""
IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
"""An address as clients have it, in which nothing else can be."""
_KEY = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOST_LABELS = 32
_MIN_INT, _MAX_INT, _SMALLEST_CARD, _LARGEST_CARD = -(2**63), 2**63 - 1, 10**13, 10**16
_SPOKEN = re.compile(r"[A-Za-z][A-Za-z_]{0,14}")
"""A method or an action that a sentence may have without being cleaned."""
_REASONS = ("word", "x1y2z3w4", "[1]", "(1, 2)")
"""What a sensitive name would not stand in front of without a trace."""

_SIGNS = (
    r"[=:%<'\"\x00-\x09\x0b-\x1f\x7f]",  # what announces a secret, and what is not printed
    r"[A-Za-z0-9_=+-]{16}",  # tokens
    r"[0-9]{3}(?:[ +-]?[0-9]){11}",  # cards
    r"\n[ ]*[/{\[]",  # paths and JSON, at the beginning of a text
)
_WORDS = ("--", "bearer", "basic", "digest", "xox", "dentified")


def _finder() -> Callable[[str], object]:
    """Return what finds any sign in texts that each have a line: one automaton of google-re2, or four patterns."""
    try:
        re2 = importlib.import_module("re2")
    except ImportError:
        return _find
    automaton = re2.Set.SearchSet()
    automaton.Add("|".join((*_SIGNS, f"(?i:{'|'.join(_WORDS)})")))
    automaton.Compile()
    match: Callable[[str], object] = automaton.Match  # a search makes an object of what it finds, which costs more
    return match


_MARKS, _TOKEN, _CARD, _BEGINNING = (re.compile(sign).search for sign in _SIGNS)
_DASHES, _BEARER, _BASIC, _DIGEST, _XOX, _DENTIFIED = _WORDS


def _find(text: str) -> object:
    # Written out: a loop over them takes half as long again.
    if _MARKS(text) or _DASHES in text or _TOKEN(text) or _CARD(text) or _BEGINNING(text):
        return True
    lower = text.lower()
    return _BEARER in lower or _BASIC in lower or _DIGEST in lower or _XOX in lower or _DENTIFIED in lower


def _is_dated(key: object, time: object) -> bool:
    """Whether a key and a time are such that a row holds them, the time in its own form."""
    return (
        type(time) is datetime and time.tzinfo is timezone.utc and type(key) is str and _KEY.fullmatch(key) is not None
    )


class Plain:
    """Judges events under one configuration, for whom no client's address is hashed and no processor is called.

    Nothing here changes but the memory; threads that race there do some work twice, no more.
    """

    def __init__(self, names: Names, texts: Texts, limit: int, kind_of: Callable[[str], Kind | None]) -> None:
        """Judge events.

        Args:
            names: which names are sensitive.
            texts: cleans a text.
            limit: bytes of a text at most.
            kind_of: returns the kind of the values under a name, None where the name itself is not harmless, or where
                values depend on others beside them.
        """
        self._names, self._texts, self._limit, self._kind_of = names, texts, limit, kind_of
        self._signs = _finder()
        self._kinds = {name: kind_of(name) for name in (*_LABELS, *_TEXTS, *_OTHERS)}
        self._can = None not in self._kinds.values()
        self._known: dict[tuple[object, ...], Verdict] = {}
        # By a known name of the metadata: texts that stay as they are in its value.
        self._clean_values: dict[str, set[str]] = {}
        # Texts that have signs, and stay as they are in a field that says nothing about them.
        self._clean = texts.harmless[Kind.PLAIN]
        # The same of reasons, most of which have a colon.
        self._clean_reasons = texts.harmless[self._kinds["reason"] or Kind.PLAIN]
        self._can = self._can and all(self._kinds[name] is Kind.PLAIN for name in _TEXTS if name != "reason")
        # Texts without a sign, and paths without a secret.
        self._bare: set[object] = {*_USUAL}
        self._bare_paths: set[object] = set()
        # IPv4 addresses.
        self._addresses: set[object] = set()

    def of(self, fields: Mapping[str, object], dated: bool = False) -> Verdict:
        """Judge an event of which all fields of the contract are given, and no other.

        Args:
            fields: of the event.
            dated: whether key and time are known to be what a row holds.
        """
        given = _fields_of(fields)
        status, seconds, metadata, address, endpoint, agent, reason, country, pattern = given
        if (
            tuple(map(type, given)) not in _TYPES
            or not (dated or _is_dated(fields["idempotency_key"], fields["timestamp"]))
            or not (status is None or _MIN_INT <= status <= _MAX_INT)
            or not (seconds is None or isfinite(seconds))
        ):
            return UNCERTAIN
        labels = (*_labels_of(fields), *metadata)
        try:
            known = self._known.get(labels)
        except TypeError:
            return UNCERTAIN
        if known is None:
            known = self._judged(labels)
        if not known:
            return known
        bare, found = self._bare, []
        if reason not in bare:
            if reason in self._clean_reasons:
                known = PLAIN
            else:
                found.append(("reason", reason))
        # Written out: a loop over them takes twice as long.
        if agent not in bare and agent not in self._clean:
            found.append(("user_agent", agent))
        if country not in bare and country not in self._clean:
            found.append(("country", country))
        if pattern not in bare and pattern not in self._clean:
            found.append(("pattern_matched", pattern))
        for name, value in metadata.items():
            if type(value) is str:
                if value not in bare and value not in self._clean_values[name]:
                    found.append((name, value))
            elif type(value) not in _FLAT or (value not in _USUAL and not self._is_plain_number(value)):
                return UNCERTAIN
        if address not in self._addresses:
            if IPV4.fullmatch(address):
                self._remember(address, self._addresses)
            else:
                known = PLAIN
                found.append(("ip_address", address))
        path = "" if endpoint is None or endpoint in self._bare_paths else endpoint
        return self._searched(path, found, known) if path or found else known

    @staticmethod
    def _is_plain_number(number: int | float) -> bool:
        """Whether JSON has a number, and it is too small or too large for a card's."""
        if type(number) is float:
            return isfinite(number)
        return _MIN_INT <= number < _SMALLEST_CARD or _LARGEST_CARD <= number <= _MAX_INT

    def _searched(self, path: str, found: list[tuple[str, str]], known: Verdict) -> Verdict:
        """Judge a path and texts by what signs are in them, and where there are some by cleaning them."""
        if len(found) == 1 and not path:
            text = found[0][1]
            if text.isascii() and "\n" not in text and len(text) < self._limit and not self._signs(f"\n{text}"):
                self._remember(text, self._bare)
                return known
        lines = "".join((path, *[f"\n{text}" for _, text in found]))
        if not lines.isascii() or lines.count("\n") != len(found) or len(lines) > self._limit:
            return Verdict.UNCERTAIN
        has_signs = bool(self._signs(lines))
        for name, text in found:
            if not has_signs or not self._signs(f"\n{text}"):
                self._remember(text, self._bare)
            elif not self._stays(name, text):
                return Verdict.UNCERTAIN
            elif name == "reason":
                known = Verdict.PLAIN
        if path[:1] == "/" and not (has_signs and self._signs(path)):
            if mask_path(path, self._names) != path:
                return Verdict.UNCERTAIN
            self._remember(path, self._bare_paths)
        elif path:
            known = Verdict.PLAIN if self._stays("endpoint", path) else Verdict.UNCERTAIN
        return known

    def _stays(self, name: str, text: str) -> bool:
        kind = self._kinds.get(name) or self._kind_of(name)
        return kind is not None and self._texts.clean(text, kind) == text

    @staticmethod
    def _remember(text: str, memory: set[object]) -> None:
        if len(text) <= MEMORABLE:
            if len(memory) >= MEMORY:
                memory.clear()
                memory.update(_USUAL)
            memory.add(text)

    def _judged(self, labels: tuple[object, ...]) -> Verdict:
        """Judge labels and names, and remember what was found."""
        if not all(label is None or (type(label) is str and len(label) <= MEMORABLE) for label in labels):
            return Verdict.UNCERTAIN
        if len(labels) > _MOST_LABELS:
            return Verdict.UNCERTAIN
        if len(self._known) >= MEMORY:
            self._known.clear()
            self._clean_values.clear()
        verdict = self._known[labels] = self._judge(*labels[:6], names=labels[6:])  # type: ignore[arg-type]
        return verdict

    def _judge(
        self,
        event_type: str | None,
        action: str | None,
        method: str | None,
        *others: str | None,
        names: tuple[str, ...],
    ) -> Verdict:
        if not self._can or event_type is None or action is None or event_type in CONTENT_KEYS_OF:
            return Verdict.UNCERTAIN
        for name, label in zip(_LABELS, (event_type, action, method, *others), strict=True):
            kind = self._kinds[name]
            if label is not None and (kind is None or not label.isascii() or self._texts.clean(label, kind) != label):
                return Verdict.UNCERTAIN
        for name in names:
            kind = self._kind_of(name)
            if kind is None or kind is Kind.PATH or not name.isascii():
                return Verdict.UNCERTAIN
            self._clean_values[name] = self._texts.harmless[kind]
        return Verdict.SPEAKABLE if method and self._may_be_spoken(method, action) else Verdict.PLAIN

    def _may_be_spoken(self, method: str, action: str) -> bool:
        """Whether "<method> <path> from <IPv4 address> <action>: <reason>" is harmless where its parts are."""
        if not _SPOKEN.fullmatch(method) or not _SPOKEN.fullmatch(action) or self._signs(f"\n{method}\n{action}"):
            return False
        sample = f"{method} /a from 192.0.2.1 {action}: "
        return action.lower() not in ROLES and all(
            self._texts.clean(sample + reason, Kind.PLAIN) == sample + reason for reason in _REASONS
        )
