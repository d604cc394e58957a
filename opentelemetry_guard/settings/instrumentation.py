"""Settings of what runs inside an application: what is observed, and what is derived from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from . import values
from .setting import Group, setting
from .values import Network

if TYPE_CHECKING:
    from .behavior_rules import Profile

PROBES = ("/health", "/healthz", "/health/live", "/health/ready", "/livez", "/readyz", "/live", "/ready", "/ping")
"""Paths that load balancers and orchestrators usually probe."""

DEFAULT_IPV6_PREFIX = 64
"""Bits of an IPv6 address that tell one client from another."""
PREFIX = "OTEL_PYTHON_GUARD_"
"""What the names of the variables begin with."""


def _http_rules(value: object) -> Mapping[str, object]:
    from .http_rules import HttpRules

    changes = values.json_object(value)
    HttpRules.resolve(changes)
    return changes


def _behavior_rules(value: object) -> Mapping[str, object]:
    from .behavior_rules import BehaviorRules

    changes = values.json_object(value)
    BehaviorRules.resolve(changes)
    return changes


def _profile(value: object) -> Profile:
    from .behavior_rules import profile

    return profile(value)


@dataclass(frozen=True, slots=True)
class GuardOptions(Group):
    """What the instrumentation does; each attribute is a keyword of `GuardInstrumentor.instrument`."""

    PREFIX: ClassVar[str] = PREFIX
    LATE: ClassVar[bool] = False
    SUBJECT: ClassVar[str] = "instrumentation"

    http_events: bool = setting(
        True, values.switch, "derive events from answers; [docs/events.md](docs/events.md) has the rules"
    )
    http_rules: Mapping[str, object] | None = setting(
        None, _http_rules, "changes to the rules of what an answer means: JSON, or the path of a file"
    )
    behavior: bool = setting(True, values.switch, "analyse clients' behaviour; [docs/behavior.md](docs/behavior.md)")
    behavior_profile: Profile = setting(
        "balanced", _profile, "how much that analysis takes for conspicuous: `relaxed`, `balanced` or `strict`"
    )
    behavior_rules: Mapping[str, object] | None = setting(
        None, _behavior_rules, "changes to the numbers of that profile: JSON, or the path of a file"
    )
    behavior_url: str | None = setting(
        None,
        values.store_url,
        "where processes put together what they count: `redis://host/0`, `sqlite:///path/behavior.db`, or `memory://` "
        "for each by itself",
        shown="beside the queue",
        url=True,
    )
    verify_crawlers: bool = setting(
        False,
        values.switch,
        "ask name servers whether who calls itself a search engine is one, which may look for what isn't there: "
        "[docs/detection.md](docs/detection.md#search-engines); extra `crawlers`",
    )
    trusted_proxies: tuple[Network, ...] = setting(
        (), values.networks, "networks whose `X-Forwarded-For` names the client", shown="none"
    )
    ipv6_prefix: int = setting(
        DEFAULT_IPV6_PREFIX,
        values.whole(1, 128, "bits"),
        "bits of an IPv6 address that tell one client from another, in limits, bans and what is counted",
    )
    exclude_paths: tuple[str, ...] = setting(
        PROBES,
        values.paths,
        "paths that `GuardRulesMiddleware` lets pass always, emergency mode included",
        shown="[usual health probes](docs/rules.md#settings)",
    )
    rules_interval: float | None = setting(
        None,
        values.seconds(1, or_zero="none"),
        "seconds between two polls of dynamic rules; 0 polls none",
        shown="the backend's, else 30",
        agent="dynamic_rule_interval",
    )
    enforce_rules: bool = setting(
        False,
        values.switch,
        "enforce the backend's rules in FastAPI and Starlette applications, as `GuardRulesMiddleware` does; not where "
        "that or fastapi-guard is there already",
    )
    resource_metrics: bool = setting(
        False,
        values.switch,
        "measure CPU, memory, threads, open files and the event loop's lag: "
        "[docs/delivery.md](docs/delivery.md#what-a-process-uses); extra `resources`",
    )
    sigterm_handler: bool = setting(
        True,
        values.switch,
        "flush telemetry on SIGTERM, and on SIGINT and SIGHUP where they have the system's default action",
    )
