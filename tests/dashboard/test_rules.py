"""The rules' editor, on both kinds of databases: what is written becomes a version, or a message that keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend

from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.models import DynamicRules

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def backend(database: Path | URL) -> Iterator[RunningBackend]:
    with running_backend(db=database) as running:
        yield running


def test_a_ban_made_in_the_editor_is_handed_out_to_applications(backend: RunningBackend, page: Page) -> None:
    page.goto(f"{backend.url}/rules")
    page.get_by_label("Ban an address or range").fill("192.0.2.77/24")
    page.get_by_role("button", name="Ban now").click()
    page.get_by_text("Saved as version 1").wait_for()
    rules = backend.rules()
    assert (rules.version, rules.ip_blacklist) == (1, ["192.0.2.0/24"])
    assert page.locator(".history li li").all_inner_texts() == ["ip blacklist + 192.0.2.0/24"]


def test_every_kind_of_rule_can_be_set_and_restored(backend: RunningBackend, page: Page) -> None:
    page.goto(f"{backend.url}/rules")
    page.get_by_label("Banned").fill("192.0.2.1\n2001:db8::/32")
    page.get_by_label("Blocked user agents").fill("sqlmap")
    page.get_by_label("All endpoints: requests").fill("100")
    page.get_by_label("in seconds").fill("60")
    page.get_by_label("Endpoints", exact=True).fill("/login 5 60")
    page.get_by_label("Let in nobody but the whitelist").check()
    page.get_by_role("button", name="Save as version 1").click()
    page.get_by_role("button", name="Yes, save it").click()
    page.get_by_text("Saved as version 1").wait_for()
    rules = backend.rules()
    assert rules.ip_blacklist == ["192.0.2.1", "2001:db8::/32"]
    assert (rules.blocked_user_agents, rules.endpoint_rate_limits) == (["sqlmap"], {"/login": (5, 60)})
    assert (rules.global_rate_limit, rules.global_rate_window, rules.emergency_mode) == (100, 60, True)
    assert page.get_by_text("The emergency mode is on").is_visible()

    page.get_by_label("Let in nobody but the whitelist").uncheck()
    page.get_by_role("button", name="Save as version 2").click()
    page.get_by_text("Saved as version 2").wait_for()
    page.wait_for_load_state()
    assert page.get_by_text("emergency mode: on → off").is_visible()
    page.get_by_role("button", name="Restore version 1").click()
    page.get_by_role("button", name="Yes, save it").click()
    page.get_by_text("Saved as version 3").wait_for()
    assert backend.rules().emergency_mode is True


def test_a_mistake_in_the_editor_is_told_and_what_was_written_stays(backend: RunningBackend, page: Page) -> None:
    page.goto(f"{backend.url}/rules")
    page.get_by_label("Banned").fill("192.0.2.1\nnot-an-address")
    page.get_by_role("button", name="Save as version 1").click()
    page.get_by_text("Line 2: “not-an-address” is neither an IP address nor a range").wait_for()
    assert page.get_by_label("Banned").input_value() == "192.0.2.1\nnot-an-address"
    assert page.get_by_label("Banned").get_attribute("aria-invalid") == "true"
    assert page.evaluate("document.activeElement.id") == "ip_blacklist"
    assert backend.rules().version == 0


def test_two_editors_do_not_overwrite_each_other(backend: RunningBackend, page: Page) -> None:
    page.goto(f"{backend.url}/rules")
    backend.set_rules(DynamicRules(ip_blacklist=["192.0.2.1"]))
    page.get_by_label("Message").fill("mine")
    page.get_by_role("button", name="Save as version 1").click()
    page.get_by_text("Somebody saved version 1 meanwhile").wait_for()
    assert backend.rules().message is None


def test_the_project_can_be_chosen_where_there_are_several(backend: RunningBackend, page: Page) -> None:
    with closing(Store(backend.db)) as store:
        store.set_rules("alpha", DynamicRules(message="rules of alpha"))
    page.goto(f"{backend.url}/rules")
    assert page.get_by_label("Project").input_value() == backend.project
    page.get_by_label("Project").select_option("alpha")
    page.wait_for_url("**project=alpha**")
    assert page.get_by_label("Message").input_value() == "rules of alpha"
