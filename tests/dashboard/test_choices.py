"""What a visitor chooses: the time zone and the time; what a narrow window folds, and what can be copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support.backend import RunningBackend, running_backend
from support.sending import event, send

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture
def backend() -> Iterator[RunningBackend]:
    with running_backend() as running:
        yield running


def times(page: Page) -> list[str]:
    return page.locator("#rows td.when").all_inner_texts()


@pytest.fixture(params=[True, False], ids=["scripts", "no scripts"])
def visitor(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(java_script_enabled=request.param, viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def test_times_are_in_the_zone_that_is_chosen_on_every_page(backend: RunningBackend, visitor: Page) -> None:
    send(
        backend,
        event(
            timestamp="2026-07-14T22:30:05Z", action_taken="logged", metadata={"guard.behavior.correlation_key": "k"}
        ),
    )
    visitor.goto(f"{backend.url}/events?action=logged")
    there = visitor.url
    assert times(visitor) == ["2026-07-14 22:30:05.000"]
    visitor.get_by_role("link", name="Change the time zone").click()
    visitor.get_by_label("Write times in").select_option("Europe/Berlin")
    visitor.get_by_role("button", name="Use this zone").click()
    visitor.get_by_text("Times are in Europe/Berlin").wait_for()
    visitor.wait_for_load_state()
    assert visitor.url == there
    assert times(visitor) == ["2026-07-15 00:30:05.000"]
    for path in ("/events/1", "/incidents/1"):
        visitor.goto(backend.url + path)
        assert "2026-07-15 00:30:05" in visitor.locator("main").inner_text()


def test_the_browsers_own_zone_is_one_press_away(backend: RunningBackend, browser: Browser) -> None:
    send(backend, event(timestamp="2026-07-14T22:30:05Z"))
    context = browser.new_context(timezone_id="America/New_York")
    page = context.new_page()
    page.goto(f"{backend.url}/events")
    page.get_by_role("button", name="America/New_York").press("Enter")
    page.get_by_text("Times are in America/New_York").wait_for()
    page.wait_for_load_state()
    assert times(page) == ["2026-07-14 18:30:05.000"]
    assert page.get_by_role("button", name="Use this browser").count() == 0
    # A row that the script puts in is as the others.
    send(backend, event(timestamp="2026-07-14T22:31:05Z"))
    page.locator("#rows tr").nth(1).wait_for()
    assert times(page)[0] == "2026-07-14 18:31:05.000"
    context.close()


def test_a_time_in_the_filter_is_in_the_zone_that_it_was_written_in(backend: RunningBackend, visitor: Page) -> None:
    send(
        backend,
        event(timestamp="2026-07-14T22:30:00Z", reason="wanted"),
        event(timestamp="2026-07-15T00:30:00Z", reason="too late"),
    )
    visitor.context.add_cookies([{"name": "guard_zone", "value": "Europe/Berlin", "url": backend.url}])
    visitor.goto(f"{backend.url}/events")
    assert visitor.get_by_label("From").is_hidden()
    visitor.get_by_label("Time", exact=True).select_option("Between two times")
    visitor.get_by_label("From").fill("2026-07-15T00:00:00")
    visitor.get_by_label("Until").fill("2026-07-15T01:00:00")
    visitor.get_by_role("button", name="Filter").click()
    visitor.wait_for_url("**since=**")
    assert visitor.locator("#rows td.reason").all_inner_texts() == ["wanted"]
    # The address says the same to somebody whose times are in UTC.
    address = visitor.url
    visitor.context.clear_cookies(name="guard_zone")
    visitor.goto(address)
    assert visitor.locator("#rows td.reason").all_inner_texts() == ["wanted"]
    assert visitor.get_by_label("From").input_value().startswith("2026-07-14T22:00")


def test_there_is_one_choice_of_a_time(backend: RunningBackend, visitor: Page) -> None:
    send(backend, event(timestamp="2026-07-14T22:30:00Z"))
    visitor.goto(f"{backend.url}/events?since=2027-01-01T00:00")
    assert visitor.get_by_label("Time", exact=True).input_value() == "between"
    visitor.get_by_text("No event matches").wait_for()
    # The fields of the beginning and the end go aside with the choice of another time, and say nothing any more.
    visitor.get_by_label("Time", exact=True).select_option("Any time")
    assert visitor.get_by_label("From").is_hidden()
    visitor.get_by_role("button", name="Filter").click()
    visitor.wait_for_url("**within=any**")
    assert visitor.locator("#rows tr").count() == 1
    assert visitor.get_by_label("Time", exact=True).input_value() == "any"
    assert visitor.get_by_role("link", name="Clear").count() == 0


def test_a_zone_that_is_none_is_refused_and_a_cookie_with_one_is_passed_over(backend: RunningBackend) -> None:
    get = backend.http.get
    assert get(f"{backend.url}/events?since=2026-01-01T00:00&zone=Mars/Olympus", timeout=60).status_code == 422
    answer = get(f"{backend.url}/events", cookies={"guard_zone": "../../etc/passwd"}, timeout=60)
    assert "Times are in UTC" in answer.text


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_the_parts_of_the_rules_are_folded_on_a_narrow_screen(
    backend: RunningBackend, browser: Browser, scripts: bool
) -> None:
    context = browser.new_context(java_script_enabled=scripts, viewport={"width": 360, "height": 740})
    page = context.new_page()
    page.goto(f"{backend.url}/rules")
    assert page.get_by_label("Banned").is_hidden()
    page.locator("summary", has_text="Addresses").press("Enter")
    page.get_by_label("Banned").fill("203.0.113.1\nno address")
    page.get_by_role("button", name="Save as version 1").click()
    # What is wrong is in sight, and what the other parts have is said.
    page.get_by_text("Line 2: “no address”").wait_for()
    assert page.locator("summary", has_text="Addresses").inner_text().split() == ["Addresses", "2", "set"]
    assert page.get_by_label("Blocked user agents").is_hidden()
    context.close()


def test_the_parts_of_the_rules_are_open_on_a_wide_screen(backend: RunningBackend, page: Page) -> None:
    page.goto(f"{backend.url}/rules")
    for label in ("Banned", "Emergency whitelist", "Endpoints", "Blocked user agents", "Message"):
        assert page.get_by_label(label, exact=True).is_visible()


@pytest.mark.parametrize("path", ["/", "/events", "/agents"])
def test_where_nothing_has_arrived_the_command_can_be_copied(
    backend: RunningBackend, browser: Browser, path: str
) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(backend.url + path)
    first = page.locator(".command").first
    first.get_by_role("button", name="Copy").press("Enter")
    first.get_by_text("Copied.").wait_for(state="attached")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines()[:2] == [
        f"export OTEL_EXPORTER_GUARD_ENDPOINT={backend.url}",
        f"export OTEL_EXPORTER_GUARD_PROJECT_ID={backend.project}",
    ]
    assert copied.splitlines()[-1].startswith("opentelemetry-guard run -- ")
    context.close()


def test_a_command_that_cannot_be_copied_is_marked(backend: RunningBackend, page: Page) -> None:
    page.add_init_script("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    page.goto(f"{backend.url}/incidents")
    page.get_by_role("button", name="Copy").click()
    page.get_by_text("The command is marked").wait_for(state="attached")
    assert page.evaluate("getSelection().toString()") == "opentelemetry-guard demo"


def test_without_scripts_the_command_is_text(backend: RunningBackend, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{backend.url}/agents")
    assert page.get_by_text("opentelemetry-guard run -- uvicorn main:app").is_visible()
    assert page.get_by_role("button", name="Copy").count() == 0
    context.close()


def test_the_country_is_a_column_where_one_is_known(backend: RunningBackend, page: Page) -> None:
    send(backend, event(reason="without"))
    page.goto(f"{backend.url}/events")
    assert page.get_by_role("columnheader", name="Country").is_hidden()
    send(backend, event(reason="with", country="DE"))
    page.get_by_role("cell", name="DE", exact=True).wait_for()
    assert page.get_by_role("columnheader", name="Country").is_visible()
