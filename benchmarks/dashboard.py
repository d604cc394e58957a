"""How long each page takes with 1,000,000 stored events: ``python -m benchmarks.dashboard [EVENTS]``.

The events go in through the same functions as from the network, many at a
time. Times are the server's own, from the request to the whole answer
(without a network); the slowest of five looks counts.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from uuid import UUID

from fastapi.testclient import TestClient

from opentelemetry_guard.backend.app import create_app
from opentelemetry_guard.backend.settings import BackendSettings
from opentelemetry_guard.backend.storage.arriving import Batch, NewEvent, Offered, add_batches
from opentelemetry_guard.backend.storage.keys import ApiKeys
from opentelemetry_guard.backend.storage.rollups import EventFacts
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.events.correlation import correlation_key

from .pages import PAGES

EVENTS = 1_000_000
LOOKS = 5
WANTED_SECONDS = 0.3
DAYS = 7
_CHUNK = 50_000
_KINDS = ("rate_limited", "penetration_attempt", "ip_blocked", "authentication_failed", "user_agent_blocked")


def fill(store: Store, count: int) -> None:
    """Store `count` events of the last days: half of them from 250 addresses, the others from one each."""
    now = datetime.now(timezone.utc).timestamp()
    for start in range(0, count, _CHUNK):
        numbers = range(start, min(start + _CHUNK, count))
        facts = [_facts(number, now - DAYS * 86_400 * (1 - number / count)) for number in numbers]
        offered = [
            NewEvent(UUID(int=number).bytes, fact, _row(number, fact))
            for number, fact in zip(numbers, facts, strict=True)
        ]
        batch = Batch("bench", f"b{start}", facts[-1].occurred_at)
        with store.database.writing() as connection:
            add_batches(store.database, connection, [Offered(batch, offered)])


def _facts(number: int, moment: float) -> EventFacts:
    kind = _KINDS[number % len(_KINDS)]
    address = f"10.0.0.{number % 250}" if number % 2 else f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    action = "logged" if kind == "authentication_failed" else "request_blocked"
    blocked = action == "request_blocked"
    key = correlation_key(address, kind)
    return EventFacts(moment, kind, action, address, f"/items/{number % 40}", blocked, "shop", correlation_key=key)


def _row(number: int, fact: EventFacts) -> str:
    timestamp = datetime.fromtimestamp(fact.occurred_at, timezone.utc).isoformat().replace("+00:00", "Z")
    return (
        f'{{"idempotency_key":"{UUID(int=number)}","timestamp":"{timestamp}","event_type":"{fact.event_type}",'
        f'"ip_address":"{fact.address}","country":null,"user_agent":"Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0",'
        f'"action_taken":"{fact.action}","reason":"120 requests in 60 s, 100 are allowed","endpoint":"{fact.endpoint}",'
        '"method":"GET","status_code":429,"response_time":0.0123,"decorator_type":null,"rule_type":null,'
        '"pattern_matched":null,"handler_name":null,"metadata":{"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}}'
    )


def main() -> None:
    """Fill a database, look at every page, and print the times."""
    count = int(sys.argv[1]) if sys.argv[1:] else EVENTS
    with tempfile.TemporaryDirectory(prefix="guard-dashboard-") as directory:
        path = Path(directory, "backend.db")
        with closing(Store(path)) as store:
            began = time.perf_counter()
            fill(store, count)
            size = path.stat().st_size / 2**20
            print(f"{count:,} events stored in {time.perf_counter() - began:.0f} s, {size:,.0f} MiB")
            app = create_app(store, BackendSettings(ApiKeys({"bench-key": "bench"})))
            with TestClient(app, base_url="http://127.0.0.1", headers={"X-API-Key": "bench-key"}) as http:
                for name, page in _pages(count).items():
                    slowest = 0.0
                    for _ in range(LOOKS):
                        began = time.perf_counter()
                        answer = http.get(page)
                        slowest = max(slowest, time.perf_counter() - began)
                        assert answer.status_code == 200, (page, answer.status_code)
                    verdict = "" if slowest < WANTED_SECONDS else "  too slow"
                    print(f"  {name:<56}{slowest * 1000:>8.1f} ms{verdict}")


def _pages(count: int) -> dict[str, str]:
    """Return the paths of pages; an export goes on for as long as there are rows, and is no page."""
    middle = count // 2 & ~1
    address = _facts(middle, 0.0).address
    places = {
        "place": f"{time.time() - DAYS * 43_200}_{count}",
        "kind": "ip_blocked",
        "attacker": "10.0.0.7",
        "address": address,
        "key": correlation_key(address, _facts(middle, 0.0).event_type),
        "endpoint": "/items/7",
        "trace": f"{middle:032x}",
        "newest": count - 10,
        "event": middle,
        "incident": 1,
    }
    return {name: page.format(**places) for name, page in PAGES.items() if "/export" not in page}


if __name__ == "__main__":
    main()
