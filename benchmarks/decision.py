"""What dynamic rules cost a request, and what new rules cost the thread that takes them over."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import time
from typing import Any

from opentelemetry_guard import DynamicRules, GuardRulesMiddleware
from opentelemetry_guard.decision.compiled_rules import CompiledRules

from .timing import compare, show

ADDRESSES = 100_000
CALLS = 5_000
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"


def entries(count: int) -> list[str]:
    """Return addresses of both families and many networks, the same in every run; of IPv4 only the lower half."""
    drawn = random.Random(7)
    made = [str(ipaddress.IPv4Address(drawn.getrandbits(31))) for _ in range(count * 60 // 100)]
    made += [
        f"{ipaddress.IPv4Address(drawn.getrandbits(31))}/{drawn.randint(16, 30)}" for _ in range(count * 30 // 100)
    ]
    made += [str(ipaddress.IPv6Address(drawn.getrandbits(128))) for _ in range(count - len(made))]
    return made


async def _application(scope: Any, receive: Any, send: Any) -> None:
    return None


def main() -> None:
    """Print the cost of a decision, of a request through the middleware, and of compiling."""
    listed = entries(ADDRESSES)
    few = DynamicRules(ip_blacklist=["192.0.2.1"])
    many = DynamicRules(ip_blacklist=listed, ip_whitelist=["198.51.100.0/24"])
    full = DynamicRules(
        ip_blacklist=listed,
        blocked_countries=["KP"],
        blocked_user_agents=["curl", "sqlmap", "bad.*bot"],
        suspicious_patterns=[r"\.\./", r"union\s+select"],
    )
    request = {"ip": "192.0.2.7", "country": "DE", "endpoint": "/items/7", "user_agent": AGENT}
    show(
        f"one decision, {ADDRESSES} listed addresses and networks",
        compare(
            {
                "one listed address": lambda: few.decide(ip="192.0.2.7"),
                "an address that isn't listed": lambda: many.decide(ip="192.0.2.7"),
                "an IPv6 address that isn't listed": lambda: many.decide(ip="2001:db8::7"),
                "a listed address": lambda: many.decide(ip=listed[7]),
                "address, country, endpoint and user agent": lambda: full.decide(**request),
            },
            calls=CALLS,
        ),
    )
    print()
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/items/7",
        "raw_path": b"/items/7",
        "query_string": b"",
        "client": ("192.0.2.7", 50000),
        "headers": [(b"host", b"a"), (b"accept", b"*/*"), (b"user-agent", AGENT.encode())],
    }
    limited = DynamicRules(ip_blacklist=listed, global_rate_limit=10**9, endpoint_rate_limits={"/login": (5, 60)})

    def calls_of(app: Any) -> Any:
        def call() -> None:
            # The coroutine never waits, so it ends with its first step.
            try:
                app(scope, None, None).send(None)
            except StopIteration:
                return

        return call

    show(
        "one request that passes",
        compare(
            {
                "the application alone": calls_of(_application),
                "middleware without rules": calls_of(GuardRulesMiddleware(_application, rules=lambda: None)),
                "middleware with addresses": calls_of(GuardRulesMiddleware(_application, rules=many)),
                "middleware with all lists": calls_of(
                    GuardRulesMiddleware(_application, rules=full, country_of=lambda _: "DE")
                ),
                "middleware with addresses and rate limits": calls_of(
                    GuardRulesMiddleware(_application, rules=limited)
                ),
            },
            calls=CALLS,
        ),
    )
    print()
    show(
        f"compiling {ADDRESSES} entries, on the thread of the rules client",
        compare({"compile": lambda: CompiledRules(many)}, rounds=3),
        1e-3,
        "ms",
    )
    print(f"  {'longest pause of an event loop meanwhile':<44}{_longest_pause(many) * 1e3:>10.2f} ms")


def _longest_pause(rules: DynamicRules) -> float:
    """Return the seconds by which an event loop's shortest timer is late at most while another thread compiles."""

    async def watch() -> float:
        compiling = asyncio.get_running_loop().run_in_executor(None, CompiledRules, rules)
        longest, last = 0.0, time.perf_counter()
        while not compiling.done():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last - 0.001), now
        return longest

    return asyncio.run(watch())


if __name__ == "__main__":
    main()
