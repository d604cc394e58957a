"""Who signs in sees the dashboard, on both kinds of databases: the owner all of it, a viewer without the buttons."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend
from support.sending import event, send

from opentelemetry_guard.backend.storage.keys import VIEWER, StoredKeys
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.models import DynamicRules

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture
def backend(database: Path | URL) -> Iterator[RunningBackend]:
    with running_backend(db=database, password="correct horse") as running:
        yield running


def test_with_a_password_nothing_is_shown_before_it_is_given(backend: RunningBackend, page: Page) -> None:
    send(backend, event(event_type=f"secret_{uuid4().hex}"))
    page.goto(f"{backend.url}/events?action=x")
    assert page.get_by_role("heading", name="Sign in").is_visible()
    page.get_by_label("Password").fill("wrong horse")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("This is not the password").wait_for()
    page.get_by_label("Password").fill("correct horse")
    page.keyboard.press("Enter")
    page.wait_for_url("**/events?action=x")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    page.goto(f"{backend.url}/rules")
    assert page.get_by_role("heading", name="Sign in").is_visible()


def test_a_viewer_sees_the_rules_and_can_change_none(backend: RunningBackend, browser: Browser) -> None:
    with closing(Store(backend.db)) as store:
        _, key = StoredKeys(store.database).create(backend.project, role=VIEWER)
    backend.set_rules(DynamicRules(ip_blacklist=["203.0.113.1"]))
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{backend.url}/rules")
    page.get_by_label("viewer").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("nothing can be changed").wait_for()
    assert page.get_by_label("Banned").input_value() == "203.0.113.1"
    assert page.get_by_label("Banned").is_disabled()
    assert page.get_by_role("button", name="Save").count() == 0
    assert page.get_by_role("button", name="Ban").count() == 0
    context.close()
