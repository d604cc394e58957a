"""The Guard backend's schema as pydantic models.

These are the bodies of the wire contract, field by field. The export path
does not construct them (rows are plain mappings there); they are what users
write, what the local backend validates with and what the tests hold every
body against.
"""

from __future__ import annotations

import os
import random
import re
import time
from datetime import datetime, timezone
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, PrivateAttr
from typing_extensions import Self

from .decision.compiled_rules import Compilation, CompiledRules, Decision
from .utils import get_current_timestamp

if TYPE_CHECKING:
    from .settings.agent import AgentConfig as AgentConfig

MetricType = Literal[
    "request_count",
    "response_time",
    "error_rate",
    "bandwidth_usage",
    "threat_level",
    "block_rate",
    "cache_hit_rate",
]
"""The closed set of metric types that the backend knows."""

EventType = Literal[
    "access_denied",
    "authentication_failed",
    "behavioral_violation",
    "cloud_blocked",
    "content_filtered",
    "country_blocked",
    "csp_violation",
    "custom_request_check",
    "decoding_error",
    "decorator_violation",
    "detection_engine_callback_error",
    "dynamic_rule_applied",
    "dynamic_rule_updated",
    "dynamic_rule_violation",
    "emergency_mode_activated",
    "emergency_mode_block",
    "geo_lookup_failed",
    "https_enforced",
    "ip_ban_failed",
    "ip_banned",
    "ip_blocked",
    "ip_unbanned",
    "path_excluded",
    "pattern_added",
    "pattern_anomaly_slow_execution",
    "pattern_anomaly_statistical_anomaly",
    "pattern_anomaly_timeout",
    "pattern_detected",
    "pattern_removed",
    "penetration_attempt",
    "rate_limit_script_reloaded",
    "rate_limited",
    "redis_connection",
    "redis_error",
    "route_unresolved",
    "security_bypass",
    "security_headers_applied",
    "suspicious_request",
    "user_agent_blocked",
]
"""The types of events that the contract names; any other text is a type as well."""

AgentState = Literal["healthy", "degraded", "failed", "error"]
"""States of an agent; `error` is the older documents' word for `failed`."""


class _Failed(str):
    """The state of an agent that has failed: equal to either word for it, so that code of both vocabularies works.

    A table that is looked up by state has the word that the agent gave, which is `failed`.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other in ("failed", "error")

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def _either_word(state: str) -> str:
    return _Failed(state) if state in ("failed", "error") else state


def _as_utc(value: datetime) -> datetime:
    """Read a naive timestamp as UTC, and bring every other one to UTC."""
    if value.tzinfo is None:
        return value.replace(tzinfo=timezone.utc)
    try:
        return value.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError("the timestamp must lie in the years 1 to 9999 in UTC") from None


Timestamp = Annotated[datetime, AfterValidator(_as_utc)]
"""An aware UTC datetime; a naive one is taken for UTC."""


_random = random.Random(os.urandom(32))
_random_bits = _random.getrandbits
_latest = (0, "00000000-0000-7")  # most keys are of the millisecond of the one before; replaced as a whole


def new_idempotency_key(nanoseconds: int | None = None) -> str:
    """Return a new UUID of version 7 (RFC 9562, 5.7): they are in the order of their time, which indexes like.

    The system is asked for randomness once a process and not once a key, since each event pays for this.

    Args:
        nanoseconds: the time since 1970; now.
    """
    global _latest
    milliseconds = (time.time_ns() if nanoseconds is None else nanoseconds) // 1_000_000
    known = _latest
    if known[0] != milliseconds:
        high = f"{milliseconds & 0xFFFF_FFFF_FFFF:012x}"
        known = _latest = (milliseconds, f"{high[:8]}-{high[8:]}-7")
    # In hexadecimal, as a whole: formatting the parts as numbers takes twice as long.
    low = _random_bits(80).to_bytes(10, "little").hex()
    return f"{known[1]}{low[:3]}-8{low[4:7]}-{low[8:]}"


if hasattr(os, "register_at_fork"):
    # Else parent and child would go on with the same numbers.
    os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))


_is_usual_uuid = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


def _as_uuid(value: object) -> object:
    """Return a UUID's text in its usual form, a ValueError for any other text; what is neither is refused later."""
    if isinstance(value, str):
        # Making a UUID of what is spelled as usual would take ten times as long.
        return value if _is_usual_uuid(value) else str(UUID(value))
    return str(value) if isinstance(value, UUID) else value


IdempotencyKey = Annotated[str, BeforeValidator(_as_uuid)]
"""A UUID as text; a UUID object is taken as well."""


class SecurityEvent(BaseModel):
    """One thing that happened to the security of an application.

    Unknown keys are kept and sent as they are. `response_time` is in
    seconds; `event_type` is one of the contract's types or a name of your own.
    """

    model_config = ConfigDict(extra="allow")

    idempotency_key: IdempotencyKey = Field(default_factory=new_idempotency_key)
    timestamp: Timestamp = Field(default_factory=get_current_timestamp)
    event_type: str
    ip_address: str = ""
    country: str | None = None
    user_agent: str | None = None
    action_taken: str = ""
    reason: str = ""
    endpoint: str | None = None
    method: str | None = None
    status_code: int | None = None
    response_time: FiniteFloat | None = None
    decorator_type: str | None = None
    rule_type: str | None = None
    pattern_matched: str | None = None
    handler_name: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class SecurityMetric(BaseModel):
    """One measurement: a finite `value` of a `metric_type`, for an endpoint or for the whole application."""

    timestamp: Timestamp = Field(default_factory=get_current_timestamp)
    metric_type: MetricType
    value: FiniteFloat
    endpoint: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)


class EventBatch(BaseModel):
    """The body of one request. `batch_id` stays the same over every retry of the same rows."""

    project_id: str = "default"
    batch_id: str
    created_at: Timestamp = Field(default_factory=get_current_timestamp)
    compressed: bool = False
    agent_version: str | None = None
    guard_version: str | None = None
    guard_core_version: str | None = None
    events: list[SecurityEvent] = []
    metrics: list[SecurityMetric] = []


class AgentStatus(BaseModel):
    """How a delivery is doing. `uptime` is in seconds, `buffer_size` in rows.

    `service` says whose it is, as far as that is known: `name`, `version`, `instance` and `environment`. `resources`
    says what the process uses, where that is measured: `cpu` (1.0 is a whole core), `memory` (bytes) and `loop_lag`
    (seconds, the largest of the last minute).

    A `status` that is `failed` compares equal to `error` as well, the older documents' word.
    """

    timestamp: Timestamp = Field(default_factory=get_current_timestamp)
    status: Annotated[AgentState, AfterValidator(_either_word)]
    uptime: float
    events_sent: int = 0
    events_failed: int = 0
    buffer_size: int = 0
    last_flush: Timestamp | None = None
    errors: list[str] = []
    service: dict[str, str] = Field(default_factory=dict)
    resources: dict[str, float] = Field(default_factory=dict)


class BanSource(BaseModel):
    """Which entries of `DynamicRules.ip_blacklist` a list of others has: `count` from the one at `first`, from 0.

    .. versionadded:: 1.0
    """

    name: str
    first: int = Field(ge=0)
    count: int = Field(ge=0)


class DynamicRules(BaseModel):
    """Rules that the backend hands out to running applications. Durations and windows are in seconds.

    Treat rules as a value: `decide` works on a compiled form. It notices a
    field that is assigned and a list that grows or shrinks, not an entry that
    is replaced by another.
    """

    _compilation: Compilation = PrivateAttr(default_factory=Compilation)

    rule_id: str = ""
    version: int = 0
    timestamp: Timestamp = Field(default_factory=get_current_timestamp)
    expires_at: Timestamp | None = None
    ttl: int = 300
    ip_blacklist: list[str] = []
    ip_blacklist_sources: list[BanSource] = []
    ip_whitelist: list[str] = []
    ip_ban_duration: int = 3600
    blocked_countries: list[str] = []
    whitelist_countries: list[str] = []
    global_rate_limit: int | None = None
    global_rate_window: int | None = None
    endpoint_rate_limits: dict[str, tuple[int, int]] = Field(default_factory=dict)
    blocked_cloud_providers: list[str] = []
    blocked_user_agents: list[str] = []
    suspicious_patterns: list[str] = []
    enable_penetration_detection: bool | None = None
    enable_ip_banning: bool | None = None
    enable_rate_limiting: bool | None = None
    auto_ban_threshold: int | None = None
    auto_ban_duration: int | None = None
    enable_rate_limit_auto_ban: bool | None = None
    emergency_mode: bool = False
    emergency_whitelist: list[str] = []
    emergency_whitelist_only: bool = False
    message: str | None = None

    def decide(
        self,
        *,
        ip: str | IPv4Address | IPv6Address | None = None,
        country: str | None = None,
        endpoint: str | None = None,
        user_agent: str | None = None,
    ) -> Decision:
        """Return whether these rules allow a request, and why. It waits for nothing and raises nothing.

        What isn't given is not judged. `docs/rules.md` has the meaning of each field.

        Args:
            ip: the client's address; IPv4, IPv6, or IPv4 mapped into IPv6. Other text is on no list.
            country: ISO 3166 code of the client's country; "" for one that was looked up and is unknown, which a
                country whitelist doesn't allow. An address without one is told once if rules name countries.
            endpoint: the path, and the query where there is one, as the client sent them.
            user_agent: as the client sent it.

        Example:
            >>> decision = DynamicRules(ip_blacklist=["192.0.2.0/24"]).decide(ip="192.0.2.7")
            >>> decision.allowed, decision.rule, decision.matched
            (False, 'ip_blacklist', '192.0.2.0/24')
        """
        address = ip if ip is None or isinstance(ip, str) else str(ip)
        compiled = self.compiled()
        if address and country is None and compiled.wants_country:
            compiled.tell_missing_country()
        return compiled.decide(address, country, endpoint, user_agent)

    def compiled(self) -> CompiledRules:
        """Return the form that decides; made now if it isn't there yet, which takes long lists some 100 ms."""
        # Read where pydantic keeps it: by its name it would cost more than the whole decision.
        private = self.__pydantic_private__
        compilation: Compilation = self._compilation if private is None else private["_compilation"]
        return compilation.of(self)

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        self._compilation.reset()

    def __copy__(self) -> Self:
        copied = super().__copy__()
        # A copy's fields go their own way.
        (copied.__pydantic_private__ or {})["_compilation"] = Compilation()
        return copied


def __getattr__(name: str) -> object:
    # The documents import it from here; it is above this module, so it is loaded when it is asked for.
    if name == "AgentConfig":
        from .settings.agent import AgentConfig

        return AgentConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
