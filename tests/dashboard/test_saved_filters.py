"""A filter that has a name is a link, with and without scripts, and what a cookie holds harms nobody."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support.backend import RunningBackend, running_backend
from support.sending import batch, event, post

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def backend() -> Iterator[RunningBackend]:
    with running_backend() as running:
        body = batch(events=[event(reason="wanted"), event(reason="other", event_type="rate_limited")])
        assert post(running, "/api/v1/events", body).status_code == 200
        yield running


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_filter_is_saved_by_a_name_followed_and_forgotten(
    backend: RunningBackend, browser: Browser, scripts: bool
) -> None:
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    page.goto(f"{backend.url}/events")
    assert page.get_by_label("Save this filter as").count() == 0
    page.goto(f"{backend.url}/events?event_type=ip_blocked&address=")
    page.get_by_label("Save this filter as").fill("Refused <b>addresses</b>")
    page.get_by_label("Save this filter as").press("Enter")
    link = page.get_by_role("link", name="Refused <b>addresses</b>")
    link.wait_for()
    assert page.title().startswith("Refused <b>addresses</b> · Events")
    page.goto(f"{backend.url}/events")
    assert page.locator("#rows tr").count() == 2
    link.press("Enter")
    page.wait_for_url("**event_type=ip_blocked**")
    assert page.locator("#rows td.reason").all_inner_texts() == ["wanted"]
    assert link.get_attribute("aria-current") == "page"
    page.get_by_role("button", name="Forget Refused").press("Enter")
    link.wait_for(state="detached")
    context.close()


def cookie(kept: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(kept).encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "é", "====", cookie(7), cookie({"a": 1}), cookie([["a"]]), cookie([["a", 7]]), cookie([[1, [2]]])),
        cookie([["name", {"project": "other", "next": "//evil", "x": "<script>"}]]),
        cookie([["n" * 3000, {"address": "a" * 300}]] * 90)[:3800],
    ],
)
def test_whatever_a_cookie_holds_the_page_is_shown(backend: RunningBackend, text: str) -> None:
    headers = {"Cookie": f"guard_filters={text}".encode()}
    answer = backend.http.get(f"{backend.url}/events", headers=headers, timeout=60)
    assert answer.status_code == 200
    assert "evil" not in answer.text
    assert "<script>" not in answer.text
