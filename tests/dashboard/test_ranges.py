"""A time is chosen by dragging over a chart, or by its table, with the keyboard and without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend
from support.sending import event, send

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page


@pytest.fixture
def backend(database: Path | URL) -> Iterator[RunningBackend]:
    with running_backend(db=database) as running:
        yield running


def reasons(page: Page) -> list[str]:
    return page.locator("#rows td.reason").all_inner_texts()


def three_hours(backend: RunningBackend) -> None:
    """Send an event for each of three times of a day that is over."""
    for hour in (1, 3, 5):
        send(backend, event(timestamp=f"2026-01-02T0{hour}:00:30Z", reason=f"at {hour}", ip_address=f"192.0.2.{hour}"))


def drag(page: Page, chart: Locator, begin: float, end: float) -> None:
    """Drag over a chart between two shares of its width."""
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * begin, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * (begin + end) / 2, box["y"] + 5)
    page.mouse.move(box["x"] + box["width"] * end, box["y"] + box["height"] / 2)


def test_dragging_over_the_histogram_narrows_the_list_and_keeps_the_filter(backend: RunningBackend, page: Page) -> None:
    three_hours(backend)
    page.goto(f"{backend.url}/events?event_type=ip_blocked")
    chart = page.locator(".histogram svg")
    assert page.get_by_role("heading", name="3 events").is_visible()
    drag(page, chart, 0.3, 0.7)
    assert page.locator(".selection").count() == 1
    page.mouse.up()
    page.wait_for_url("**since=**")
    assert reasons(page) == ["at 3"]
    asked = parse_qs(urlsplit(page.url).query)
    assert asked["event_type"] == ["ip_blocked"]
    assert asked["since"][0] < "2026-01-02T03:00:30" < asked["until"][0]
    assert page.get_by_label("Time", exact=True).input_value() == "between"


def test_escape_leaves_the_time_as_it_is(backend: RunningBackend, page: Page) -> None:
    three_hours(backend)
    page.goto(f"{backend.url}/events")
    there = page.url
    drag(page, page.locator(".histogram svg"), 0.3, 0.7)
    page.keyboard.press("Escape")
    page.mouse.up()
    assert page.locator(".selection").count() == 0
    assert page.url == there


def test_dragging_over_the_overview_leads_to_the_events_of_that_time(backend: RunningBackend, page: Page) -> None:
    now = datetime.now(timezone.utc)
    send(
        backend,
        event(timestamp=(now - timedelta(minutes=50)).isoformat(), reason="early"),
        event(timestamp=(now - timedelta(minutes=5)).isoformat(), reason="late"),
    )
    page.goto(backend.url)
    assert page.get_by_text("Drag over the chart").is_visible()
    drag(page, page.locator(".chart svg"), 0.5, 1.0)
    page.mouse.up()
    page.wait_for_url("**/events?**since=**")
    assert reasons(page) == ["late"]


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_the_table_leads_to_the_same_by_keyboard_and_without_scripts(
    backend: RunningBackend, browser: Browser, scripts: bool
) -> None:
    three_hours(backend)
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    page.goto(f"{backend.url}/events?address=192.0.2.*")
    page.locator(".histogram summary").press("Enter")
    links = page.locator(".histogram tbody a")
    assert links.count() == 3
    links.nth(1).press("Enter")
    page.wait_for_url("**since=**")
    assert reasons(page) == ["at 3"]
    assert page.get_by_label("Address").input_value() == "192.0.2.*"
    context.close()
