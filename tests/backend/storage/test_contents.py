"""What only the rows say is found wherever it lies, each event once, and a look reads a bounded number of rows."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opentelemetry_guard.backend.storage import looks as looks_module
from opentelemetry_guard.backend.storage.contents import Contents, page_of
from opentelemetry_guard.backend.storage.paging import Cursor
from opentelemetry_guard.backend.storage.search import EventFilter, EventSearch, FoundEvent
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.events.enrichment import CORRELATION_KEY
from opentelemetry_guard.models import SecurityEvent

BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
AGENTS = ("Mozilla/5.0", "sqlmap/1.9", None)


def made(number: int) -> SecurityEvent:
    metadata = {"trace_id": f"{number % 5:032x}", CORRELATION_KEY: f"key{number % 4}"} if number % 3 else {}
    return SecurityEvent(
        event_type="rate_limited" if number % 2 else "ip_blocked",
        timestamp=BEGIN + timedelta(seconds=number),
        reason=str(number),
        user_agent=AGENTS[number % 3],
        metadata=metadata,
    )


@pytest.fixture(scope="module")
def search(module_store: Store) -> EventSearch:
    module_store.add("p", "b", [made(number) for number in range(300)], [], BEGIN.timestamp() + 1000)
    return EventSearch(module_store.database)


def all_pages(search: EventSearch, wanted: EventFilter, asked: Contents, limit: int) -> list[str]:
    found: list[str] = []
    before: Cursor | None = None
    while True:
        page = page_of(search, wanted, asked, before, limit)
        assert len(page.found) <= limit
        found += [event.row for event in page.found]
        if page.older is None:
            return found
        before = page.older


@pytest.mark.parametrize("limits", [(20_000, 2_000), (20, 7), (1, 1)])
@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (Contents(user_agent="SQLMAP"), lambda n: n % 3 == 1),
        (Contents(trace=f"{2:032X}"), lambda n: n % 3 and n % 5 == 2),
        (Contents(trace="0" * 31), lambda n: n % 3),
        (Contents(correlation_key="key3"), lambda n: n % 3 and n % 4 == 3),
        (Contents("sqlmap", f"{1:032x}", "key1"), lambda n: n % 3 == 1 and n % 5 == 1 and n % 4 == 1),
        (Contents(correlation_key="key"), lambda n: False),
        (Contents(), lambda n: True),
    ],
)
def test_every_event_that_says_it_is_found_once_in_order(
    search: EventSearch,
    monkeypatch: pytest.MonkeyPatch,
    asked: Contents,
    wanted: object,
    limits: tuple[int, int],
) -> None:
    monkeypatch.setattr(looks_module, "COMPARED_ROWS", limits[0])
    monkeypatch.setattr(looks_module, "STRETCH_ROWS", limits[1])
    assert callable(wanted)
    for kind in ("", "rate_limited"):
        rows = all_pages(search, EventFilter("p", event_type=kind), asked, 10)
        numbers = [int(SecurityEvent.model_validate_json(row).reason or "") for row in rows]
        assert numbers == [n for n in reversed(range(300)) if wanted(n) and (n % 2 or not kind)]


def test_a_look_that_finds_too_little_says_that_it_was_cut_short(
    search: EventSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks_module, "COMPARED_ROWS", 100)
    monkeypatch.setattr(looks_module, "STRETCH_ROWS", 50)
    monkeypatch.setattr(looks_module, "LOOK_SECONDS", math.inf)
    page = page_of(search, EventFilter("p"), Contents(user_agent="none of them"), None, 10)
    assert (page.found, page.cut_short, page.looked_at) == ([], True, 100)
    assert page.older is not None
    assert page.older.occurred_at == BEGIN.timestamp() + 200


def test_all_events_of_a_trace_are_found_however_far_back_they_are(
    search: EventSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks_module, "COMPARED_ROWS", 100)
    monkeypatch.setattr(looks_module, "STRETCH_ROWS", 100)
    page = page_of(search, EventFilter("p"), Contents(trace=f"{3:032x}"), None, 100)
    assert ([int(reason_of(one)) for one in page.found], page.older, page.cut_short) == (
        [n for n in reversed(range(300)) if n % 3 and n % 5 == 3],
        None,
        False,
    )
    assert page_of(search, EventFilter("p"), Contents(trace=f"{3:031x}"), None, 100).cut_short
    assert page_of(search, EventFilter("q"), Contents(trace=f"{3:032x}"), None, 100).found == []


TRACES = st.sampled_from(["a" * 32, "b" * 32, "A" * 32, "a" * 33, "a", ""])
METADATA = st.dictionaries(
    st.sampled_from(["trace_id", "context", 'x"trace_id', "note"]),
    TRACES | st.fixed_dictionaries({"trace_id": TRACES}) | st.lists(TRACES, max_size=1) | st.none(),
)
numbers = count()


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(METADATA, max_size=4), TRACES.filter(lambda trace: len(trace) == 32))
def test_an_event_is_of_its_own_trace_whatever_else_it_says_of_others(
    module_store: Store, sent: list[dict[str, object]], wanted: str
) -> None:
    project = f"traces{next(numbers)}"
    events = [
        SecurityEvent(event_type="e", timestamp=BEGIN, reason=f'{number} "trace_id":"{"a" * 32}"', metadata=metadata)
        for number, metadata in enumerate(sent)
    ]
    module_store.add(project, "b", events, [], BEGIN.timestamp())
    page = page_of(EventSearch(module_store.database), EventFilter(project), Contents(trace=wanted), None, 10)
    expected = [
        number
        for number, metadata in enumerate(sent)
        if isinstance(trace := metadata.get("trace_id"), str) and trace.lower().startswith(wanted.lower())
    ]
    assert sorted(int(reason_of(one).partition(" ")[0]) for one in page.found) == expected


def reason_of(found: FoundEvent) -> str:
    return SecurityEvent.model_validate_json(found.row).reason


AGENT = 'Pct%_ "quoted" back\\slash ÄÖ\t*'


@pytest.mark.parametrize(
    ("asked", "is_found"),
    [
        ("pct%_", True),
        ("PCT%", True),
        ("pct__", False),
        ("%slash", False),
        ('"QUOTED"', True),
        ("back\\slash", True),
        ("äö", True),
        ("\t*", True),
        ("user_agent", False),
        ("rate_limited", False),
    ],
)
def test_an_agent_is_found_whatever_characters_it_has(store: Store, asked: str, is_found: bool) -> None:
    events = [SecurityEvent(event_type="rate_limited", timestamp=BEGIN, user_agent=agent) for agent in (AGENT, None)]
    store.add("p", "b", events, [], BEGIN.timestamp())
    page = page_of(EventSearch(store.database), EventFilter("p"), Contents(user_agent=asked), None, 10)
    assert [SecurityEvent.model_validate_json(one.row).user_agent for one in page.found] == [AGENT] * is_found


TEXT = st.text(max_size=8)


@given(TEXT, TEXT, TEXT, TEXT)
def test_the_texts_that_are_looked_for_are_in_every_row_that_matches(
    agent: str, trace: str, key: str, wanted: str
) -> None:
    event = SecurityEvent(
        event_type="e", user_agent=agent, metadata={"trace_id": trace, CORRELATION_KEY: key, "other": wanted}
    )
    row = event.model_dump_json()
    for asked, is_said in (
        (Contents(user_agent=wanted), wanted.lower() in agent.lower()),
        (Contents(trace=wanted), trace.lower().startswith(wanted.lower())),
        (Contents(correlation_key=wanted), not wanted or key == wanted),
    ):
        assert asked.matches(row) == is_said
        assert not is_said or all(text in row.lower() for text in asked.texts())
