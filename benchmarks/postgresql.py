"""How long each page takes with 10,000,000 events in PostgreSQL: ``python -m benchmarks.postgresql [EVENTS]``.

A server of its own in a directory that goes with it, filled within: events of the last seven days, half of them from
250 addresses, the others in bursts of 16 from one address each, with the figures and incidents that the backend would
have added up. Then a real backend is asked for each page many times, for other places and addresses each time. Times
are from the request to the last byte of the answer, on the same machine; of an export to its first rows, since it goes
on for as long as there are rows. Where others use the machine as well, what counts is the CPU time: the backend's and
the database's, for one look.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from string import Template

import requests
from sqlalchemy import URL, Connection, text
from support.backend import RunningBackend, running_backend
from support.postgresql import running_postgresql

from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.backend.storage.tables import day_of
from opentelemetry_guard.events.known import meaning_of
from opentelemetry_guard.models import AgentStatus, DynamicRules

from .meter import cpu_of, postmaster
from .pages import PAGES

EVENTS = 10_000_000
DAYS = 7
LOOKS = 60
AGENTS = 200
WANTED_SECONDS = 0.3
PROJECT = "bench"
_SEED = 16
_SECONDS = DAYS * 86_400.0
_KINDS = ("rate_limited", "penetration_attempt", "ip_blocked", "authentication_failed", "user_agent_blocked")

SERVER = (
    "shared_buffers=1GB",
    "maintenance_work_mem=512MB",
    "max_wal_size=8GB",
    "wal_level=minimal",
    "max_wal_senders=0",
)

# `n` is the id of an event, `t` its time. Half of them are of known attackers, the others come in bursts.
_GENERATED = """
    SELECT n, t, kind, action, address, endpoint, left(md5(address || kind), 16) AS key
    FROM generate_series(CAST($first AS bigint), CAST($last AS bigint)) AS n
    CROSS JOIN LATERAL (SELECT CAST($since AS float8) + n * CAST($step AS float8) AS t) AS moment
    CROSS JOIN LATERAL (SELECT
        (ARRAY['{kinds}'])[1 + (CASE n % 2 WHEN 1 THEN n / 2 ELSE n / 32 END) % {amount}] AS kind,
        CASE n % 2 WHEN 1 THEN '10.0.0.' || n / 2 % 250
            ELSE '11.' || (n >> 21) || '.' || (n >> 13 & 255) || '.' || (n >> 5 & 255) END AS address,
        '/items/' || n % 40 AS endpoint
    ) AS told
    CROSS JOIN LATERAL (
        SELECT CASE kind WHEN 'authentication_failed' THEN 'logged' ELSE 'request_blocked' END AS action
    ) AS done
""".format(kinds="','".join(_KINDS), amount=len(_KINDS))

_EVENTS = f"""
    INSERT INTO events SELECT n, '{PROJECT}', 'b' || n / 100, t, t, kind, action, address, endpoint, 'shop', format(
        '{{"idempotency_key":"%s","timestamp":"%s","event_type":"%s","ip_address":"%s","country":null,"user_agent":'
        '"Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0","action_taken":"%s","reason":"120 requests in 60 s, 100 are '
        'allowed","endpoint":"%s","method":"GET","status_code":429,"response_time":0.0123,"decorator_type":null,'
        '"rule_type":null,"pattern_matched":null,"handler_name":null,"metadata":{{"trace_id":"%s","service.name":"shop",'
        '"guard.behavior.correlation_key":"%s","guard.behavior.threat_score":60}}}}',
        CAST(lpad(to_hex(n), 32, '0') AS uuid),
        to_char(to_timestamp(t) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        kind, address, action, endpoint, md5(CAST(n AS text)), key
    ) FROM ({_GENERATED}) AS generated
"""

_KEYS = f"""
    INSERT INTO event_keys SELECT '{PROJECT}', decode(lpad(to_hex(n), 32, '0'), 'hex'), floor(t / 86400)
    FROM ({_GENERATED}) AS generated
"""

_INCIDENTS = f"""
    INSERT INTO incidents (project_id, correlation_key, first_seen, last_seen, events, requests, stopped, severity,
        threat_score, last_action, event_types, addresses, targets, latest, last_event, state, state_since)
    SELECT '{PROJECT}', key, min(t), max(t), count(*), count(*), count(*) FILTER (WHERE action <> 'logged'),
        max(CASE kind {{severities}} END), 60, max(action), '["' || max(kind) || '"]', '["' || max(address) || '"]',
        '["' || max(endpoint) || '"]', '[' || max(n) || ']', max(n), 'open', min(t)
    FROM ({_GENERATED}) AS generated GROUP BY key
""".format(severities=" ".join(f"WHEN '{kind}' THEN {meaning_of(kind).severity}" for kind in _KINDS))

_FIGURES = (
    """INSERT INTO stored_rows SELECT 'events', floor(received_at / 86400), event_type, count(*)
        FROM events GROUP BY 2, 3""",
    f"""INSERT INTO event_minutes SELECT '{PROJECT}', floor(occurred_at / 60), event_type, count(*),
        count(*) FILTER (WHERE action <> 'logged') FROM events GROUP BY 2, 3""",
    *(
        f"""INSERT INTO event_tops SELECT '{PROJECT}', '{dimension}', {seconds}, floor(occurred_at / {seconds}),
            {dimension}, count(*) FROM events GROUP BY 4, 5"""
        for dimension in ("address", "endpoint")
        for seconds in (600, 3600)
    ),
    f"""INSERT INTO metric_minutes SELECT '{PROJECT}', minute, kind, 900, 900, 1
        FROM generate_series(CAST($since / 60 AS bigint), CAST($until / 60 AS bigint)) AS minute,
        unnest(ARRAY['request_count', 'response_time', 'threat_level']) AS kind""",
    f"""INSERT INTO latency_minutes SELECT '{PROJECT}', minute, bucket, 30
        FROM generate_series(CAST($since / 60 AS bigint), CAST($until / 60 AS bigint)) AS minute,
        generate_series(-60, -31) AS bucket""",
)


def fill(store: Store, count: int, until: float) -> None:
    """Store `count` events that occurred before `until` (Unix seconds), and what is counted with them."""
    since = until - _SECONDS
    times = {"since": since, "until": until, "step": _SECONDS / count}
    bounds = [count * day // DAYS for day in range(DAYS + 1)]
    with store.database.writing() as connection:
        indexes = _without_indexes(connection)
        for day in range(day_of(since), day_of(until) + 1):
            store.database.kind.make_room(connection, day)
    for first, last in pairwise(bounds):
        with store.database.writing() as connection:
            for statement in (_EVENTS, _KEYS):
                _run(connection, Template(statement).substitute(times, first=first + 1, last=last))
    with store.database.writing() as connection:
        _run(connection, f"INSERT INTO last_ids VALUES ('events', {count})")
        for statement in (*_FIGURES, _INCIDENTS):
            _run(connection, Template(statement).substitute(times, first=1, last=count))
        for statement in indexes:
            _run(connection, statement)
    for number in range(AGENTS):
        status = AgentStatus(status="healthy", uptime=60.0 * number, service={"name": f"shop-{number % 20}"})
        store.set_status(PROJECT, f"{number:032x}", "opentelemetry-guard", status, until)
    for number in range(20):
        store.set_rules(PROJECT, DynamicRules(ip_blacklist=[f"198.51.100.{number}"]))
    with store.database.reading() as connection:
        # As the server's own autovacuum does.
        _run(connection, "VACUUM (ANALYZE)")


def _run(connection: Connection, statement: str) -> None:
    connection.execution_options(no_parameters=True).exec_driver_sql(statement)


def _without_indexes(connection: Connection) -> list[str]:
    """Drop the indexes of events, which takes less time than to fill them row by row; return how to make them."""
    found = connection.execute(text("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'events'")).all()
    for name, _ in found:
        _run(connection, f"DROP INDEX {name}")
    return [definition.replace(" ON ONLY ", " ON ") for _, definition in found]


class Places:
    """Fills in what a page is asked for, another one each time."""

    def __init__(self, store: Store, count: int, until: float) -> None:
        """Choose among `count` events before `until`, and the incidents of `store`."""
        self._chance, self._count, self._until = random.Random(_SEED), count, until
        with store.database.reading() as connection:
            found = connection.execute(text("SELECT id FROM incidents ORDER BY random() LIMIT 200"))
            self._incidents = [int(number) for (number,) in found]
            some = text("SELECT correlation_key, addresses FROM incidents WHERE id = ANY(:ids)")
            self._keys = [
                (key, addresses.strip('["]')) for key, addresses in connection.execute(some, {"ids": self._incidents})
            ]
            traces = text("SELECT md5(CAST(n AS text)) FROM generate_series(1, 200) AS n")
            self._traces = [str(trace) for (trace,) in connection.execute(traces)]

    def of(self, page: str) -> str:
        """Return a URL's path of a page."""
        chance = self._chance
        number = chance.randrange(1, self._count)
        moment = self._until - _SECONDS * (1 - number / self._count)
        key, address = chance.choice(self._keys)
        return page.format(
            place=f"{moment}_{number}",
            moment=time.strftime("%Y-%m-%dT%H:%M", time.gmtime(moment)),
            kind=chance.choice(_KINDS),
            attacker=f"10.0.0.{chance.randrange(250)}",
            address=address,
            key=key,
            endpoint=f"/items/{chance.randrange(40)}",
            trace=chance.choice(self._traces),
            newest=self._count - 10,
            event=number,
            incident=chance.choice(self._incidents),
        )


def look(backend: RunningBackend, http: requests.Session, path: str) -> float:
    """Return how long a look at a page takes, in seconds."""
    began = time.perf_counter()
    with http.get(backend.url + path, stream=True, timeout=600) as answer:
        if "/export" in path:
            next(answer.iter_content(1 << 16))
        else:
            _ = answer.content
        seconds = time.perf_counter() - began
        assert answer.status_code in (200, 204), (path, answer.status_code, answer.text[:200])
    return seconds


def look_at_all(url: URL, server: Path, count: int, until: float) -> bool:
    """Look at every page of a backend on the filled database at `url`; print the times, return if all are as wanted."""
    with closing(Store(url)) as store:
        places = Places(store, count, until)
    fast = True
    print(f"{'page':<56}{'p50 ms':>10}{'p95 ms':>10}{'max ms':>10}{'CPU ms':>10}", flush=True)
    with running_backend(db=url, project=PROJECT, rate_limit="0") as backend, requests.Session() as http:
        http.trust_env = False
        http.headers["X-API-Key"] = backend.api_key
        measured = (backend.pid, postmaster(server))
        for name, page in PAGES.items():
            used = cpu_of(measured)
            times = [look(backend, http, places.of(page)) for _ in range(LOOKS)]
            cpu = (cpu_of(measured) - used) / LOOKS
            p95 = statistics.quantiles(times, n=20)[-1]
            fast = fast and p95 < WANTED_SECONDS
            figures = "".join(
                f"{seconds * 1000:>10.1f}" for seconds in (statistics.median(times), p95, max(times), cpu)
            )
            print(f"{name:<56}{figures}{'' if p95 < WANTED_SECONDS else '  too slow'}", flush=True)
    return fast


def main() -> None:
    """Start a server, measure, and leave nothing behind."""
    count = int(sys.argv[1].replace("_", "")) if sys.argv[1:] else EVENTS
    with running_postgresql(*SERVER) as server, server.database() as url:
        until, began = time.time(), time.perf_counter()
        with closing(Store(url)) as store:
            fill(store, count, until)
            size = store.database.read(text("SELECT pg_database_size(current_database())"))[0][0] / 2**30
        print(f"{count:,} events generated in {time.perf_counter() - began:.0f} s, {size:.1f} GiB", flush=True)
        fast = look_at_all(url, server.directory, count, until)
    sys.exit(0 if fast else 1)


if __name__ == "__main__":
    main()
