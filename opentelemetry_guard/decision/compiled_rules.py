"""What dynamic rules say about one request: allowed or blocked, by which field, and why in words.

`CompiledRules` is the compiled form of a rules object; `decide` on it costs
about a microsecond, whatever the number of listed addresses. Nothing here does
I/O or knows an application.

The order is fastapi-guard's: emergency mode, addresses, countries, user
agents, patterns. `docs/rules.md` has the meaning of each field.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Protocol
from urllib.parse import unquote

from .addresses import AddressList, is_loopback, number_of
from .ban_sources import Source, by_entry
from .cloud import CloudProviders
from .patterns import Patterns
from .unenforced import Unenforced

_logger = logging.getLogger(__name__)

LONGEST_USER_AGENT = 512
"""Characters of a user agent that are looked at, as in fastapi-guard."""
LONGEST_MESSAGE = 1000
"""Characters of the rules' message that a decision has."""
ENDPOINT_PIECE = 1024
"""Characters of an endpoint that are looked at together; all of it is, piece by piece."""
_DECODINGS = 2
"""How often an endpoint is decoded in search of patterns; servers, proxies and applications do it once or twice."""
MOST_REMEMBERED = 1024
"""User agents whose verdict is remembered."""
_LISTS = itemgetter(
    "ip_blacklist",
    "ip_blacklist_sources",
    "ip_whitelist",
    "blocked_countries",
    "whitelist_countries",
    "blocked_cloud_providers",
    "blocked_user_agents",
    "suspicious_patterns",
    "emergency_whitelist",
)
_QUOTED = 10
"""Wrong entries of a list that a message quotes."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What rules say about a request. It is true where the request is allowed.

    Attributes:
        allowed: whether the request may pass.
        reason: why, in words for operators, not for the client; "" where no rule says anything.
        rule: the field of `DynamicRules` that decided, "" where none did.
        matched: the entry of that field that matched; "" where it was the lack of a match.
        ban_list: the list of others that the entry is from, "" for one of the operator's.
        message: what the rules' author says to operators (`DynamicRules.message`) where they block; "" for nothing.
    """

    allowed: bool
    reason: str = ""
    rule: str = ""
    matched: str = ""
    message: str = ""
    ban_list: str = ""

    def __bool__(self) -> bool:
        return self.allowed


ALLOWED = Decision(True)
"""No rule says anything."""


class Rules(Protocol):
    """The fields of `DynamicRules` that decide; `CompiledRules` takes any object that has them."""

    expires_at: datetime | None
    ip_blacklist: list[str]

    @property
    def ip_blacklist_sources(self) -> Sequence[Source]:
        """Which of these are from lists of others."""

    ip_whitelist: list[str]
    blocked_countries: list[str]
    whitelist_countries: list[str]
    blocked_cloud_providers: list[str]
    blocked_user_agents: list[str]
    suspicious_patterns: list[str]
    enable_penetration_detection: bool | None
    emergency_mode: bool
    emergency_whitelist: list[str]
    emergency_whitelist_only: bool
    message: str | None


class CompiledRules:
    """The compiled form of rules. It never changes, and any number of threads may ask it.

    An entry that is wrong matches nothing, is told (`Unenforced`), and the others work.

    Attributes:
        wants_country: whether countries matter, so that a caller who must look one up can save the effort.
        wants_endpoint: whether endpoints matter.
        wants_user_agent: whether user agents matter.
    """

    def __init__(self, rules: Rules) -> None:
        self._expires_at = None if rules.expires_at is None else rules.expires_at.timestamp()
        self._emergency = rules.emergency_mode
        self._emergency_whitelist = AddressList(rules.emergency_whitelist)
        self._whitelist = AddressList(rules.ip_whitelist)
        self._blacklist = AddressList(rules.ip_blacklist)
        self._ban_lists = by_entry(rules.ip_blacklist, rules.ip_blacklist_sources)
        self._clouds = CloudProviders(rules.blocked_cloud_providers)
        self._needs_address = bool(self._whitelist or self._blacklist or self._clouds or self._emergency)
        self._message = (rules.message or "")[:LONGEST_MESSAGE]
        self._blocked_countries = _countries(rules.blocked_countries)
        self._whitelist_countries = _countries(rules.whitelist_countries)
        self.wants_country = bool(self._blocked_countries or self._whitelist_countries)
        self._agents = Patterns(rules.blocked_user_agents, LONGEST_USER_AGENT)
        detects = rules.enable_penetration_detection is not False
        self._patterns = Patterns(rules.suspicious_patterns if detects else (), ENDPOINT_PIECE)
        self.wants_user_agent, self.wants_endpoint = bool(self._agents), bool(self._patterns)
        # Browsers are few and requests many. Entries are only set and all cleared at once, each atomic, and every
        # thread would compute the same one.
        self._verdicts: dict[str, str | None] = {}
        problems = (
            *_invalid("ip_blacklist", self._blacklist),
            *_invalid("ip_whitelist", self._whitelist),
            *_invalid("emergency_whitelist", self._emergency_whitelist),
            *(f"blocked_user_agents: {problem}" for problem in self._agents.problems),
            *(f"suspicious_patterns: {problem}" for problem in self._patterns.problems),
            *self._clouds.problems,
            *_without_effect(rules),
        )
        self._unenforced = Unenforced(_logger, problems)
        self._countryless: Unenforced | None = None  # threads that race say the same

    @property
    def problems(self) -> tuple[str, ...]:
        """What of the rules is not enforced, in sentences that name the field, the value and the remedy."""
        return self._unenforced.problems

    def tell_missing_country(self) -> None:
        """Report once that somebody asks about addresses without their countries, which rules name."""
        if self._countryless is None:
            listed = {"blocked_countries": self._blocked_countries, "whitelist_countries": self._whitelist_countries}
            fields = " and ".join(name for name, codes in listed.items() if codes)
            problem = f"{fields} can't be judged: pass the country of an address to DynamicRules.decide"
            self._countryless = Unenforced(_logger, [problem])

    def expired(self, now: float | None = None) -> bool:
        """Tell whether the rules are past their `expires_at`, at `now` in seconds since the epoch."""
        return self._expires_at is not None and (time.time() if now is None else now) >= self._expires_at

    def decide(
        self,
        ip: str | None = None,
        country: str | None = None,
        endpoint: str | None = None,
        user_agent: str | None = None,
        *,
        now: float | None = None,
    ) -> Decision:
        """Decide on one request; see `DynamicRules.decide`. `now` is in seconds since the epoch."""
        decision = self._decide(ip, country, endpoint, user_agent, now)
        return replace(decision, message=self._message) if self._message and not decision.allowed else decision

    def _decide(
        self, ip: str | None, country: str | None, endpoint: str | None, user_agent: str | None, now: float | None
    ) -> Decision:
        if self._expires_at is not None and self.expired(now):
            return ALLOWED
        number = number_of(ip) if ip and self._needs_address else None
        if self._emergency and (number is None or self._emergency_whitelist.find(number) is None):
            return Decision(False, "emergency mode: the address is not on the emergency whitelist", "emergency_mode")
        if number is not None:
            if (entry := self._whitelist.find(number)) is not None:
                return _on_list(True, entry)
            if (entry := self._blacklist.find(number)) is not None:
                return _on_list(False, entry, self._ban_lists.get(entry, ""))
        if country is not None and self.wants_country and (verdict := self._decide_country(ip, country)) is not None:
            return verdict
        if number is not None and self._clouds and (provider := self._clouds.find(number)) is not None:
            return Decision(
                False, f"the address belongs to the cloud of {provider}", "blocked_cloud_providers", provider
            )
        if user_agent and self.wants_user_agent and (pattern := self._blocked_agent(user_agent)) is not None:
            return Decision(False, f"the user agent matches {pattern!r}", "blocked_user_agents", pattern)
        if endpoint and self.wants_endpoint and (pattern := self._suspicious(endpoint)) is not None:
            return Decision(False, f"the endpoint matches {pattern!r}", "suspicious_patterns", pattern)
        return ALLOWED

    def _decide_country(self, ip: str | None, country: str) -> Decision | None:
        code = country.strip().upper()
        if self._whitelist_countries:
            if code in self._whitelist_countries:
                return None
            number = None if code or not ip else number_of(ip)
            if number is not None and is_loopback(number):
                return None
            return Decision(False, f"the country {code or '(unknown)'} is not whitelisted", "whitelist_countries")
        if code in self._blocked_countries:
            return Decision(False, f"the country {code} is blocked", "blocked_countries", code)
        return None

    def _blocked_agent(self, user_agent: str) -> str | None:
        subject = user_agent[:LONGEST_USER_AGENT]
        try:
            return self._verdicts[subject]
        except KeyError:
            pattern = self._agents.find(subject)
        if len(self._verdicts) >= MOST_REMEMBERED:
            self._verdicts.clear()
        self._verdicts[subject] = pattern
        return pattern

    def _suspicious(self, endpoint: str) -> str | None:
        """Look for patterns in an endpoint as it was sent, and in what it stands for where it is percent-encoded."""
        pattern = self._patterns.find(endpoint)
        for _ in range(_DECODINGS):
            if pattern is not None or not ("%" in endpoint or "+" in endpoint):
                break
            endpoint = unquote(endpoint.replace("+", " "))
            pattern = self._patterns.find(endpoint)
        return pattern


@lru_cache(maxsize=4096)
def _on_list(allowed: bool, entry: str, ban_list: str = "") -> Decision:
    if allowed:
        return Decision(True, f"the address is whitelisted ({entry})", "ip_whitelist", entry)
    whose = f", by the list {ban_list}" if ban_list else ""
    return Decision(False, f"the address is blacklisted ({entry}{whose})", "ip_blacklist", entry, ban_list=ban_list)


class Compilation:
    """The place of a rules object's compiled form, which is made when it is first asked for.

    It is no part of the object's value: a copy, a deep copy and a pickle begin
    without one, and all are equal. Threads may race here: each result is right
    and the last one stays.
    """

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: tuple[CompiledRules, tuple[int, ...]] | None = None

    def of(self, rules: Rules) -> CompiledRules:
        """Return the compiled form of `rules`, a new one where the length of a list has changed."""
        lengths = tuple(map(len, _LISTS(vars(rules))))
        made = self._made
        if made is not None and lengths == made[1]:
            return made[0]
        compiled = CompiledRules(rules)
        self._made = (compiled, lengths)
        return compiled

    def reset(self) -> None:
        """Forget what was made, because a field was assigned."""
        self._made = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Compilation)

    __hash__ = None  # type: ignore[assignment]

    def __copy__(self) -> Compilation:
        return Compilation()

    def __deepcopy__(self, memo: object) -> Compilation:
        return Compilation()

    def __reduce__(self) -> tuple[type[Compilation], tuple[()]]:
        return Compilation, ()


def _countries(codes: Iterable[str]) -> frozenset[str]:
    return frozenset(code.strip().upper() for code in codes if code.strip())


def _without_effect(rules: Rules) -> list[str]:
    """Say which fields ask for something that other fields keep from being done."""
    if rules.emergency_whitelist_only and not rules.emergency_mode:
        return ["emergency_whitelist_only has no effect without emergency_mode, in which nobody else passes anyway"]
    return []


def _invalid(field: str, addresses: AddressList) -> list[str]:
    """Say which entries of a field are no addresses; nothing where all are."""
    if not addresses.invalid:
        return []
    shown = ", ".join(repr(entry[:60]) for entry in addresses.invalid[:_QUOTED])
    more = f" and {len(addresses.invalid) - _QUOTED} more" if len(addresses.invalid) > _QUOTED else ""
    return [f"{field} has entries that are neither an address nor a network and are ignored: {shown}{more}"]
