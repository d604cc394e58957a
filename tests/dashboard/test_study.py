"""A change of the rules can be tried on stored events before it is saved, with and without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend
from support.sending import batch, event, post

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def backend(database: Path | URL) -> Iterator[RunningBackend]:
    with running_backend(db=database) as running:
        seen = {"timestamp": datetime.now(timezone.utc).isoformat(), "event_type": "suspicious_request"}
        events = [
            event(**seen, ip_address="203.0.113.7", status_code=200, method="POST", endpoint="/login"),
            event(**seen, ip_address="203.0.113.8", status_code=404),
        ]
        assert post(running, "/api/v1/events", batch(events=events)).status_code == 200
        yield running


def test_a_preview_names_clients_keeps_what_was_written_and_saves_nothing(
    backend: RunningBackend, visitor: Page
) -> None:
    visitor.goto(f"{backend.url}/rules")
    part = visitor.locator("details.group", has=visitor.get_by_text("Addresses", exact=True))
    if part.get_attribute("open") is None:
        part.locator("summary").click()
    visitor.get_by_label("Banned").fill("203.0.113.0/24")
    visitor.get_by_role("button", name="Preview on stored events").click()
    visitor.get_by_text("2 clients would have been blocked").wait_for()
    visitor.wait_for_load_state()
    assert visitor.get_by_text("1 of these clients had successful requests, 1 logged in.").is_visible()
    assert visitor.get_by_role("link", name="203.0.113.7").is_visible()
    assert visitor.locator("#ip_blacklist").input_value() == "203.0.113.0/24"
    rules = backend.http.get(f"{backend.url}/api/v1/rules", headers=backend.headers, timeout=60).json()
    assert rules["version"] == 0
    visitor.get_by_role("button", name="Save as version 1").click()
    visitor.get_by_text("Saved as version 1.").wait_for()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_mistake_in_the_form_is_said_as_when_it_is_saved(backend: RunningBackend, visitor: Page) -> None:
    visitor.goto(f"{backend.url}/rules")
    part = visitor.locator("details.group", has=visitor.get_by_text("Addresses", exact=True))
    if part.get_attribute("open") is None:
        part.locator("summary").click()
    visitor.get_by_label("Banned").fill("everybody")
    visitor.get_by_role("button", name="Preview on stored events").click()
    visitor.get_by_text("neither an IP address nor a range").wait_for()
