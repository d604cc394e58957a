"""What could shut out more than is meant is asked about once more, with and without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend
from support.sending import batch, event, post

from opentelemetry_guard.models import DynamicRules

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


@pytest.fixture
def backend(database: Path | URL) -> Iterator[RunningBackend]:
    with running_backend(db=database) as running:
        yield running


def opened(page: Page, title: str) -> None:
    """Open a part of the form where no script has done so."""
    part = page.locator("details.group", has=page.get_by_text(title, exact=True))
    part.wait_for()
    page.wait_for_load_state()
    if part.get_attribute("open") is None:
        part.locator("summary").click()


def test_the_emergency_mode_is_asked_about_and_what_was_written_is_kept(backend: RunningBackend, visitor: Page) -> None:
    visitor.goto(f"{backend.url}/rules")
    opened(visitor, "Emergency mode")
    opened(visitor, "Addresses")
    visitor.get_by_label("Let in nobody but the whitelist").check()
    visitor.get_by_label("Banned").fill("203.0.113.1\n203.0.113.2")
    visitor.get_by_role("button", name="Save as version 1").click()
    visitor.get_by_text("The emergency mode refuses everybody: the whitelist is empty.").wait_for()
    assert backend.rules().version == 0

    visitor.get_by_role("button", name="No, back to the rules").click()
    opened(visitor, "Addresses")
    assert visitor.get_by_label("Banned").input_value() == "203.0.113.1\n203.0.113.2"
    opened(visitor, "Emergency mode")
    visitor.get_by_label("Emergency whitelist", exact=True).fill("198.51.100.7")
    visitor.get_by_role("button", name="Save as version 1").click()
    visitor.get_by_text("every client but those of the whitelist (1 entry)").wait_for()
    visitor.get_by_role("button", name="Yes, save it").click()
    visitor.get_by_text("Saved as version 1").wait_for()
    rules = backend.rules()
    assert (rules.emergency_mode, rules.emergency_whitelist) == (True, ["198.51.100.7"])
    assert rules.ip_blacklist == ["203.0.113.1", "203.0.113.2"]

    # It is on already: a further change is not asked about.
    opened(visitor, "About this version")
    visitor.get_by_label("Message").fill("going on")
    visitor.get_by_role("button", name="Save as version 2").click()
    visitor.get_by_text("Saved as version 2").wait_for()


@pytest.mark.parametrize(
    ("ban", "told"),
    [
        ("127.0.0.1", "127.0.0.1” is your own address"),
        ("127.9.9.9", "127.9.9.9” is this machine itself"),
        ("10.0.0.0/8", "10.0.0.0/8” takes in an address of a private network"),
    ],
)
def test_a_ban_of_ones_own_machine_or_network_is_asked_about(
    backend: RunningBackend, visitor: Page, ban: str, told: str
) -> None:
    visitor.goto(f"{backend.url}/rules")
    visitor.get_by_label("Ban an address or range").fill(ban)
    visitor.get_by_role("button", name="Ban now").click()
    visitor.get_by_text(told).wait_for()
    assert backend.rules().version == 0
    visitor.get_by_role("button", name="No, back to the rules").click()
    assert visitor.get_by_label("Ban an address or range").input_value() == ban
    visitor.get_by_role("button", name="Ban now").click()
    visitor.get_by_role("button", name="Yes, save it").click()
    visitor.get_by_text("Saved as version 1").wait_for()
    assert backend.rules().ip_blacklist == [ban]


def test_a_private_address_is_asked_about_wherever_it_is_banned(backend: RunningBackend, visitor: Page) -> None:
    body = {**batch(events=[event(ip_address="192.168.1.7")]), "project_id": backend.project}
    assert post(backend, "/api/v1/events", body).status_code == 200
    visitor.goto(f"{backend.url}/events/1")
    visitor.get_by_role("button", name="Ban 192.168.1.7").click()
    visitor.get_by_role("heading", name="Is this meant?").wait_for()
    visitor.get_by_role("button", name="Yes, save it").press("Enter")
    visitor.get_by_text("Saved as version 1").wait_for()


def test_an_earlier_version_with_the_emergency_mode_is_asked_about(backend: RunningBackend, visitor: Page) -> None:
    backend.set_rules(DynamicRules(emergency_mode=True, emergency_whitelist=["192.0.2.1"]))
    backend.set_rules(DynamicRules())
    visitor.goto(f"{backend.url}/rules")
    visitor.get_by_role("button", name="Restore version 1").click()
    visitor.get_by_role("heading", name="Is this meant?").wait_for()
    assert backend.rules().emergency_mode is False
    visitor.get_by_role("button", name="Yes, save it").click()
    visitor.get_by_text("Saved as version 3").wait_for()
    assert backend.rules().emergency_mode is True
