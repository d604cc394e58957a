"""A backend's database as a busy evening leaves it: the same figures at every call, but for the time."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from uuid import UUID

from opentelemetry_guard.backend.storage.store import FIRST_TTL, Store
from opentelemetry_guard.events.correlation import correlation_key
from opentelemetry_guard.events.enrichment import CORRELATION_KEY, THREAT_SCORE, threat_score
from opentelemetry_guard.models import AgentStatus, DynamicRules, SecurityEvent, SecurityMetric

PROJECT = "shop"

KINDS = (
    # type, action, endpoint, method, status, reason, weight
    ("rate_limited", "request_blocked", "/items/{id}", "GET", 429, "120 requests in 60 s, 100 are allowed", 30),
    ("authentication_failed", "logged", "/login", "POST", 401, "The password is wrong", 22),
    ("penetration_attempt", "request_blocked", "/search", "GET", 400, "SQL injection in the query parameter q", 14),
    ("ip_blocked", "request_blocked", "/checkout", "POST", 403, "The address is banned", 12),
    ("user_agent_blocked", "request_blocked", "/robots.txt", "GET", 403, "sqlmap is blocked", 9),
    ("behavioral_violation", "logged", "/items/{id}", "GET", 200, "Steps through item numbers", 6),
    ("country_blocked", "request_blocked", "/checkout", "POST", 403, "Not delivered to this country", 4),
    ("ip_banned", "banned", "/login", "POST", 403, "5 failed logins in 60 s", 3),
)
AGENTS = ("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", "sqlmap/1.9", "curl/8.14", "python-requests/2.34")


def events(count: int, now: datetime, minutes: float, seed: int = 7) -> Iterator[SecurityEvent]:
    """Give `count` events of the last `minutes`, oldest first, with a wave in the second half."""
    chance = random.Random(seed)
    for number in range(count):
        part = number / count
        back = minutes * (1 - part) ** 1.15 * (1 + 0.02 * math.sin(part * 25))
        kind, action, endpoint, method, status, reason, _ = chance.choices(KINDS, [one[-1] for one in KINDS])[0]
        host = min(int(chance.expovariate(0.18)) + 1, 250)
        metadata: dict[str, object] = {"service": "shop", "rule": f"r-{number % 7}"}
        if number % 4:
            metadata |= {"trace_id": f"{chance.getrandbits(128):032x}", "span_id": f"{chance.getrandbits(64):016x}"}
        address = f"203.0.113.{host}" if host % 5 else f"2001:db8::{host:x}"
        metadata |= {CORRELATION_KEY: correlation_key(address, kind), THREAT_SCORE: threat_score(kind, action, 1)}
        yield SecurityEvent(
            idempotency_key=str(UUID(int=chance.getrandbits(128))),
            timestamp=now - timedelta(minutes=back),
            event_type=kind,
            ip_address=address,
            country=chance.choice(["DE", "FR", "US", "BR", None]),
            user_agent=chance.choice(AGENTS),
            action_taken=action,
            reason=reason,
            endpoint=endpoint,
            method=method,
            status_code=status,
            response_time=round(chance.lognormvariate(-3.5, 0.8), 4),
            metadata=metadata,
        )


def metrics(now: datetime, minutes: int, seed: int = 11) -> Iterator[SecurityMetric]:
    """Give what applications measure in each of the last `minutes`."""
    chance = random.Random(seed)
    for minute in range(minutes):
        moment = now - timedelta(minutes=minute)
        requests, p50 = chance.randint(150, 240), chance.uniform(0.018, 0.03)
        tags = {"count": str(requests), "p50": repr(p50), "p95": repr(p50 * 6), "p99": repr(p50 * 15)}
        tags["max"] = repr(p50 * 30)
        yield SecurityMetric(timestamp=moment, metric_type="request_count", value=requests, endpoint="/items/{id}")
        yield SecurityMetric(
            timestamp=moment, metric_type="response_time", value=p50 * 1.7, endpoint="/items/{id}", tags=tags
        )
        yield SecurityMetric(timestamp=moment, metric_type="threat_level", value=chance.uniform(0.2, 0.5))


def seed(store: Store, count: int = 1500) -> None:
    """Fill `store` with events and metrics of the last hour, three agents and some versions of the rules."""
    now = datetime.now(timezone.utc)
    found = list(events(count, now, 59.0))
    for start in range(0, count, 500):
        store.add(PROJECT, f"batch-{start}", found[start : start + 500], [], now.timestamp())
    store.add(PROJECT, "figures", [], list(metrics(now, 60)), now.timestamp())
    _seed_agents(store, now)
    _seed_rules(store, now)


def _seed_agents(store: Store, now: datetime) -> None:
    def status(state: str, seen: float, sent: int, failed: int, waiting: int, errors: list[str]) -> AgentStatus:
        return AgentStatus(
            status=state,  # type: ignore[arg-type]
            uptime=93_700.0,
            events_sent=sent,
            events_failed=failed,
            buffer_size=waiting,
            last_flush=now - timedelta(seconds=seen + 3),
            errors=errors,
        )

    agents = (
        ("7f1f4a5e-96a8-4f0b-8a52-2f1d4c4f4f10", 7_400.0, status("healthy", 7_400.0, 81_250, 0, 0, [])),
        (
            "c2a9c1de-0a71-4d24-9d11-73f1b2f0d0aa",
            95.0,
            status("degraded", 95.0, 40_113, 12, 318, ["The backend answered 503: trying again in 4 s"]),
        ),
        ("e5b7c7b2-1df2-4a0e-b1c3-3a9a2c0f7e55", 12.0, status("healthy", 12.0, 120_934, 0, 0, [])),
    )
    for install_id, seconds, said in agents:
        store.set_status(PROJECT, install_id, "opentelemetry-guard/0.1.0", said, now.timestamp() - seconds)


def _seed_rules(store: Store, now: datetime) -> None:
    first = DynamicRules(timestamp=now - timedelta(hours=5), ttl=FIRST_TTL, blocked_user_agents=["sqlmap", "nikto"])
    second = first.model_copy(
        update={"timestamp": now - timedelta(minutes=50), "endpoint_rate_limits": {"/login": (5, 60)}}
    )
    third = second.model_copy(
        update={
            "timestamp": now - timedelta(minutes=4),
            "ip_blacklist": ["203.0.113.7", "198.51.100.0/24", "2001:db8:bad::/48"],
            "message": "Credential stuffing from two networks",
        }
    )
    for rules in (first, second, third):
        store.set_rules(PROJECT, rules)
