"""The rules editor's form: rules as text that a person writes, and back, with a clear word on each mistake."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import TypeVar

from ...decision.compiled_rules import ENDPOINT_PIECE, LONGEST_USER_AGENT
from ...decision.patterns import refusal
from ...models import DynamicRules
from ..bans import check_bans, read_ban, read_network, shown

ItemT = TypeVar("ItemT")

MAX_LINES = 10_000
"""Lines of one list."""

_MAX_PATTERN = 500
_MAX_MESSAGE = 1_000
_MAX_NUMBER = 10**9
_MAX_TTL = 86_400


@dataclass(frozen=True, slots=True)
class RulesForm:
    """The fields of the form by name, as text; a box that is ticked holds ``on``, another one nothing."""

    fields: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        """Return a field's text."""
        return self.fields.get(name, "")


@dataclass(frozen=True, slots=True)
class ReadForm:
    """The rules that a form describes, or what is wrong with it: a message for each field."""

    rules: DynamicRules | None
    errors: Mapping[str, str]


LISTS = (
    "ip_blacklist",
    "ip_whitelist",
    "blocked_user_agents",
    "suspicious_patterns",
    "blocked_countries",
    "emergency_whitelist",
)
"""Fields with one item a line."""

BOXES = ("emergency_mode", "emergency_whitelist_only")
"""Fields that are ticked or not."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "addresses": ("ip_blacklist", "ip_whitelist", "blocked_countries", "ip_ban_duration"),
    "emergency": ("emergency_mode", "emergency_whitelist", "emergency_whitelist_only"),
    "limits": ("global_rate_limit", "global_rate_window", "endpoint_rate_limits"),
    "requests": ("blocked_user_agents", "suspicious_patterns"),
    "version": ("message", "ttl"),
}
"""The form's parts, and the fields of each."""

_ALWAYS_SET = frozenset({"ip_ban_duration", "ttl", "global_rate_window"})


def entries(form: RulesForm, group: str) -> int:
    """Count what a part of the form sets: lines of lists, numbers, boxes and texts."""
    counted = 0
    for name in GROUPS[group]:
        if name in LISTS or name == "endpoint_rate_limits":
            counted += sum(bool(line.strip()) for line in form[name].splitlines())
        elif name not in _ALWAYS_SET:
            counted += bool(form[name].strip())
    return counted


def form_of(rules: DynamicRules) -> RulesForm:
    """Write rules as the form shows them."""
    fields = {name: "\n".join(getattr(rules, name)) for name in LISTS}
    fields |= {name: "on" if getattr(rules, name) else "" for name in BOXES}
    fields["ip_ban_duration"] = str(rules.ip_ban_duration)
    fields["global_rate_limit"] = "" if rules.global_rate_limit is None else str(rules.global_rate_limit)
    fields["global_rate_window"] = "" if rules.global_rate_window is None else str(rules.global_rate_window)
    fields["endpoint_rate_limits"] = "\n".join(
        f"{path} {requests} {window}" for path, (requests, window) in sorted(rules.endpoint_rate_limits.items())
    )
    fields["ttl"] = str(rules.ttl)
    fields["message"] = rules.message or ""
    return RulesForm(fields)


def read_form(form: RulesForm, base: DynamicRules) -> ReadForm:
    """Read a form into rules that keep what `base` says about everything the form doesn't have."""
    errors: dict[str, str] = {}

    def lines(name: str, read: Callable[[str], ItemT]) -> list[ItemT]:
        written = [(number, line.strip()) for number, line in enumerate(form[name].splitlines(), 1) if line.strip()]
        if len(written) > MAX_LINES:
            errors[name] = f"There are {len(written)} lines: {MAX_LINES} are the most."
            return []
        items = []
        for number, line in written:
            try:
                items.append(read(line))
            except ValueError as error:
                errors.setdefault(name, f"Line {number}: {error}")
        return items

    def number(name: str, lowest: int, highest: int, default: int | None = None) -> int | None:
        text = form[name].strip()
        if not text and default is None:
            return None
        if not re.fullmatch(r"[0-9]{1,12}", text) or not lowest <= int(text) <= highest:
            errors[name] = f"{shown(text)} is no whole number from {lowest} to {highest}."
            return default
        return int(text)

    bans = _unique(lines("ip_blacklist", read_ban))
    try:
        check_bans(bans)
    except ValueError as error:
        errors.setdefault("ip_blacklist", str(error))
    message = form["message"].strip()
    if len(message) > _MAX_MESSAGE:
        errors["message"] = f"The message has {len(message)} characters: {_MAX_MESSAGE} are the most."
    changes: dict[str, object] = {
        "ip_blacklist": bans,
        "ip_whitelist": _unique(lines("ip_whitelist", read_network)),
        "emergency_whitelist": _unique(lines("emergency_whitelist", read_network)),
        "blocked_user_agents": _unique(lines("blocked_user_agents", partial(read_pattern, longest=LONGEST_USER_AGENT))),
        "suspicious_patterns": _unique(lines("suspicious_patterns", partial(read_pattern, longest=ENDPOINT_PIECE))),
        "blocked_countries": _unique(lines("blocked_countries", read_country)),
        "endpoint_rate_limits": dict(lines("endpoint_rate_limits", read_endpoint_limit)),
        "ip_ban_duration": number("ip_ban_duration", 1, _MAX_NUMBER, base.ip_ban_duration),
        "global_rate_limit": number("global_rate_limit", 1, _MAX_NUMBER),
        "global_rate_window": number("global_rate_window", 1, _MAX_NUMBER),
        "ttl": number("ttl", 1, _MAX_TTL, base.ttl),
        "emergency_mode": form["emergency_mode"] == "on",
        "emergency_whitelist_only": form["emergency_whitelist_only"] == "on",
        "message": message or None,
    }
    half_set = (changes["global_rate_limit"] is None) != (changes["global_rate_window"] is None)
    if half_set and not errors.keys() & {"global_rate_limit", "global_rate_window"}:
        missing = "global_rate_limit" if changes["global_rate_limit"] is None else "global_rate_window"
        errors[missing] = "A limit needs both: a number of requests and a number of seconds. Leave both empty for none."
    if errors:
        return ReadForm(None, errors)
    changes["timestamp"] = datetime.now(timezone.utc)
    return ReadForm(base.model_copy(update=changes), {})


def read_pattern(text: str, longest: int) -> str:
    """Return a regular expression that applications look for in texts of up to `longest` characters.

    Raises:
        ValueError: it is none, is too long, or is one that applications ignore since it can be made to take too long.
    """
    if len(text) > _MAX_PATTERN:
        raise ValueError(f"the pattern has {len(text)} characters: {_MAX_PATTERN} are the most.")
    try:
        compiled = re.compile(text, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(
            f"{shown(text)} is no regular expression ({error}). Escape special characters with \\."
        ) from None
    if compiled.search("") is not None:
        raise ValueError(f"{shown(text)} matches everything.")
    if refusal(text, longest) is not None:
        raise ValueError(
            f"{shown(text)} would be ignored: a hostile text could keep applications busy with it. "
            "Use fewer repeats, and none inside another."
        )
    return text


def read_country(text: str) -> str:
    """Return a country code of two letters in capitals.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch("[A-Za-z]{2}", text):
        raise ValueError(f"{shown(text)} is no country code of two letters, such as DE.")
    return text.upper()


def read_endpoint_limit(text: str) -> tuple[str, tuple[int, int]]:
    """Read ``/login 5 60``: a path, how many requests, in how many seconds.

    Raises:
        ValueError: it is anything else.
    """
    match = re.fullmatch(r"(/\S*)\s+([0-9]{1,9})\s+([0-9]{1,9})", text)
    if match is None or not int(match[2]) or not int(match[3]):
        raise ValueError(f"{shown(text)} is not a path, a number of requests and a number of seconds: /login 5 60")
    return match[1], (int(match[2]), int(match[3]))


def changes_between(older: DynamicRules, newer: DynamicRules) -> list[str]:
    """Say in a line each what `newer` changes."""
    told: list[str] = []
    for name in DynamicRules.model_fields:
        if name in ("rule_id", "version", "timestamp", "ip_blacklist_sources"):
            continue
        before, after = getattr(older, name), getattr(newer, name)
        if before == after:
            continue
        label = name.replace("_", " ")
        if isinstance(before, list) and isinstance(after, list):
            told += _told_items(label, before, after)
        elif isinstance(before, dict) and isinstance(after, dict):
            told += _told_items(label, list(map(_limit_text, before.items())), list(map(_limit_text, after.items())))
        else:
            told.append(f"{label}: {_value_text(before)} → {_value_text(after)}")
    return told


def _told_items(label: str, before: Sequence[str], after: Sequence[str]) -> list[str]:
    known, kept = set(before), set(after)
    added = [item for item in after if item not in known]
    removed = [item for item in before if item not in kept]
    told = []
    for sign, items in (("+", added), ("−", removed)):  # noqa: RUF001 - a true minus beside a plus
        if items:
            more = f" and {len(items) - 3} more" if len(items) > 3 else ""
            told.append(f"{label} {sign} {', '.join(items[:3])}{more}")
    return told


def _limit_text(item: tuple[str, tuple[int, int]]) -> str:
    path, (requests, window) = item
    return f"{path} {requests}/{window} s"


def _value_text(value: object) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _unique(items: Sequence[ItemT]) -> list[ItemT]:
    return list(dict.fromkeys(items))
