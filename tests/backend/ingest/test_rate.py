"""How often a key may send."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.backend import running_backend
from support.sending import batch, event, post

from opentelemetry_guard.backend.ingest.rate import RateLimiter
from opentelemetry_guard.backend.storage.keys import StoredKeys
from opentelemetry_guard.backend.storage.store import Store


@given(st.integers(1, 600), st.lists(st.floats(0, 30), max_size=60))
def test_nobody_gets_more_than_a_minutes_worth_and_what_the_time_adds(per_minute: int, pauses: list[float]) -> None:
    now = 0.0
    limiter = RateLimiter(lambda: now)
    allowed = 0
    for pause in pauses:
        now += pause
        allowed += limiter.wait("key", per_minute) == 0
    assert allowed <= per_minute * (1 + now / 60) + 1


@given(st.integers(1, 600))
def test_after_the_wait_the_request_goes_through(per_minute: int) -> None:
    now = 0.0
    limiter = RateLimiter(lambda: now)
    assert all(limiter.wait("key", per_minute) == 0 for _ in range(per_minute))
    wait = limiter.wait("key", per_minute)
    assert wait > 0
    assert limiter.wait("another key", per_minute) == 0
    now += wait
    assert limiter.wait("key", per_minute) == 0


def test_beyond_the_limit_a_key_is_answered_429_with_the_seconds_to_wait() -> None:
    with running_backend(rate_limit="3") as backend:
        answers = [post(backend, "/api/v1/events", batch(events=[event()])) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 20
        assert answers[-1].json()["success"] is False
        assert len(backend.events()) == 3


@pytest.mark.parametrize("held", ["rate_limit", "address_rate_limit", "project_rate_limit"])
def test_keys_addresses_and_projects_have_limits_of_their_own(held: str) -> None:
    limits = {"rate_limit": "1000", "address_rate_limit": "1000", "project_rate_limit": "1000", held: "2"}
    with running_backend(**limits) as backend:
        answers = [post(backend, "/api/v1/events", batch(events=[event()])) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert int(answers[-1].headers["Retry-After"]) >= 1
        called = {"rate_limit": "key", "address_rate_limit": "address", "project_rate_limit": "project"}[held]
        assert answers[-1].json()["detail"].startswith(f"This {called} may send 2 requests a minute")


def test_who_guesses_keys_is_held_by_the_address() -> None:
    with running_backend(address_rate_limit="2") as backend:
        statuses = [post(backend, "/api/v1/events", batch(), X_API_Key=f"guess-{n}").status_code for n in range(3)]
        assert statuses == [401, 401, 429]


def test_the_keys_of_a_project_share_its_limit(tmp_path: Path) -> None:
    db = tmp_path / "backend.db"
    with closing(Store(db)) as store:
        _, other = StoredKeys(store.database).create("test-project")
    with running_backend(db=db, project_rate_limit="2") as backend:
        used = [{}, {"X_API_Key": other}, {}]
        assert [post(backend, "/api/v1/events", batch(), **one).status_code for one in used] == [200, 200, 429]
