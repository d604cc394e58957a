"""Searching for what only the rows say, from a page of an incident too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend
from support.sending import event, send

from opentelemetry_guard.events.enrichment import CORRELATION_KEY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def backend(database: Path | URL) -> Iterator[RunningBackend]:
    with running_backend(db=database) as running:
        yield running


@pytest.fixture(params=[True, False], ids=["scripts", "no scripts"])
def visitor(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(java_script_enabled=request.param, viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def reasons(page: Page) -> list[str]:
    return page.locator("#rows td.reason").all_inner_texts()


def test_events_are_found_by_user_agent_and_trace(backend: RunningBackend, visitor: Page) -> None:
    send(
        backend,
        event(reason="tool", user_agent="sqlmap/1.9 (https://sqlmap.org)"),
        event(reason="traced", metadata={"trace_id": TRACE}),
        event(reason="neither"),
    )
    visitor.goto(f"{backend.url}/events")
    visitor.get_by_label("User agent").fill("SQLmap")
    visitor.get_by_role("button", name="Filter").press("Enter")
    visitor.wait_for_url("**user_agent=SQLmap**")
    assert reasons(visitor) == ["tool"]
    visitor.get_by_role("link", name="Clear").click()
    visitor.get_by_label("Trace", exact=True).fill(TRACE[:12])
    visitor.get_by_role("button", name="Filter").click()
    visitor.wait_for_url("**trace=4bf9**")
    assert reasons(visitor) == ["traced"]
    visitor.locator("#rows td.type a").click()
    visitor.get_by_role("link", name=TRACE, exact=True).click()
    visitor.wait_for_url("**/events?**trace=**")
    assert reasons(visitor) == ["traced"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_cost_is_said(backend: RunningBackend, visitor: Page) -> None:
    visitor.goto(f"{backend.url}/events")
    assert visitor.get_by_label("Trace", exact=True).get_attribute("aria-describedby") == "contents-hint"
    hint = visitor.locator("#contents-hint").inner_text()
    assert "up to 50,000 events are looked at for a page" in hint
    assert "All events of a whole trace id are found at once" in hint


def test_what_arrives_is_filtered_by_it_too(backend: RunningBackend, page: Page) -> None:
    page.goto(f"{backend.url}/events?user_agent=sqlmap")
    send(backend, event(reason="no", user_agent="curl"), event(reason="yes", user_agent="sqlmap"))
    page.get_by_role("cell", name="yes").wait_for()
    assert reasons(page) == ["yes"]


def test_exports_and_the_feed_are_filtered_by_it_too(backend: RunningBackend) -> None:
    send(backend, event(reason="no", user_agent="curl"), event(reason="yes", user_agent="sqlmap"))
    get, asked = backend.http.get, {"user_agent": "sqlmap"}
    rows = get(f"{backend.url}/events/export", params={**asked, "format": "json"}, timeout=60).json()
    assert [row["reason"] for row in rows] == ["yes"]
    for after in ({}, {"after": "0"}):
        told = get(f"{backend.url}/local/feed", params={**asked, **after}, headers=backend.headers, timeout=60).json()
        assert [one["event"]["reason"] for one in told["events"]] == ["yes"]


def test_an_incident_leads_to_all_its_events(backend: RunningBackend, visitor: Page) -> None:
    key = {CORRELATION_KEY: "the key"}
    send(
        backend,
        event(reason="mine", ip_address="192.0.2.1", timestamp="2026-01-02T00:00:01Z", metadata=key),
        event(reason="another", ip_address="192.0.2.1", timestamp="2026-01-02T00:00:02Z"),
        event(reason="mine too", ip_address="192.0.2.2", timestamp="2026-01-02T00:00:03Z", metadata=key),
    )
    visitor.goto(f"{backend.url}/incidents/1")
    visitor.get_by_role("link", name="Show them in the list").click()
    visitor.wait_for_url("**correlation_key=**")
    assert reasons(visitor) == ["mine too", "mine"]
    assert visitor.get_by_label("Correlation key").input_value() == "the key"
