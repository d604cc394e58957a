"""What a request that went well adds to the counts by the short way is what it adds by the long one."""

from __future__ import annotations

import zlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from opentelemetry_guard.events.enrichment import CORRELATION_KEY, INCIDENT
from opentelemetry_guard.instrumentation.behavior.analyzer import BehaviorAnalyzer
from opentelemetry_guard.instrumentation.http.answers import AnsweredRequest, PassedRequest

RULES = {
    "request_rate": {"requests": 10, "most": 60, "window": 30},
    "campaign": {"busy": 10},
    "enumeration": {"found": 30},
}

requests = st.tuples(
    st.sampled_from(["203.0.113.1", "203.0.113.2", "2001:db8::1", "::ffff:192.0.2.1", "testclient", ""]),
    st.sampled_from([None, "ada", "bob"]),
    st.sampled_from([("/items/{number}", "/items/7"), ("/items/{number}", "/items/8"), ("/", "/"), (None, "/x")]),
    st.sampled_from([200, 304, 404, 401]),
    st.sampled_from(["Firefox", "curl", ""]),
    st.integers(1, 80),
    st.sampled_from([0.0, 0.1, 20.0, 400.0]),
)


def state(analyzer: BehaviorAnalyzer) -> Any:
    told = []
    for windows in analyzer.windows():
        table = windows._table
        rows = [windows.mine(key) for key in table._keys]
        told.append((table._keys[:], bytes(table._seen_again), rows, [list(column) for column in table._columns]))
    return told, analyzer.learned()


@given(st.lists(requests, max_size=25))
@settings(deadline=None)
def test_both_ways_count_and_find_the_same(coming: list[Any]) -> None:
    long, short = BehaviorAnalyzer(RULES), BehaviorAnalyzer(RULES)
    touched: tuple[list[object], list[object]] = ([], [])
    for analyzer, noted in zip((long, short), touched, strict=True):
        number = {id(windows): position for position, windows in enumerate(analyzer.windows())}
        analyzer.touch = lambda changed, key, noted=noted, number=number: noted.append(
            ([number[id(windows)] for windows in changed], key)
        )
    now = 0.0
    for address, user, (route, path), status, agent, times, pause in coming:
        now += pause
        answered = AnsweredRequest(address, user, "GET", path, route, status, 0.0, agent)
        for _ in range(times):
            found = long.observe(answered, now)
            if status < 400:
                passed = PassedRequest(address, user, zlib.crc32(agent.encode()), status, route, path)
                telling = short.passed(passed, now)
                also = () if telling is None else telling(answered)
            else:
                also = short.observe(answered, now)
            assert _named(found) == _named(also)
    assert touched[0] == touched[1]
    assert state(long) == state(short)


def _named(found: Any) -> list[Any]:
    """Leave out the names of incidents, which are drawn."""
    return [{**each, "metadata": {**each["metadata"], INCIDENT: "", CORRELATION_KEY: ""}} for each in found]
