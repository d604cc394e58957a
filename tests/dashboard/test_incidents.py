"""The pages of incidents in a browser, in front of a real backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend
from support.sending import batch, event, post

from opentelemetry_guard.events.enrichment import CORRELATION_KEY, THREAT_SCORE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture
def backend(database: Path | URL) -> Iterator[RunningBackend]:
    with running_backend(db=database) as running:
        yield running


def send(backend: RunningBackend, *events: dict[str, object]) -> None:
    body = {**batch(events=list(events)), "project_id": backend.project}
    assert post(backend, "/api/v1/events", body).status_code == 200


def of(key: str, **fields: Any) -> dict[str, object]:
    metadata = {CORRELATION_KEY: key, THREAT_SCORE: 83, **fields.pop("metadata", {})}
    return event(**{"event_type": "penetration_attempt", "ip_address": "192.0.2.7", **fields}, metadata=metadata)


def incidents(backend: RunningBackend, state: str = "") -> list[dict[str, Any]]:
    parameters = {"state": state} if state else {}
    answer = backend.http.get(f"{backend.url}/local/incidents", params=parameters, timeout=60)
    found: list[dict[str, Any]] = answer.json()["incidents"]
    return found


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_an_attack_is_found_acknowledged_banned_and_closed(
    backend: RunningBackend, browser: Browser, scripts: bool
) -> None:
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    page.goto(backend.url)
    page.get_by_role("link", name="Incidents").click()
    page.get_by_text("No incident yet").wait_for()
    send(
        backend,
        of("k", timestamp="2026-01-02T00:00:01Z", endpoint="/a", action_taken="request_blocked"),
        of("k", timestamp="2026-01-02T00:00:09Z", endpoint="/b", action_taken="logged", metadata={"folded": 6}),
        of("other", ip_address="192.0.2.99", event_type="https_enforced", timestamp="2026-01-02T00:00:30Z"),
    )
    page.reload()
    assert page.locator(".incidents h2 .mono").all_inner_texts() == ["192.0.2.99", "192.0.2.7"]
    page.get_by_label("Severity").select_option("high")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**severity=high**")
    page.get_by_role("link", name="Attacks by 192.0.2.7").click()
    page.wait_for_url("**/incidents/1**")
    text = page.locator("main").inner_text()
    for shown in ("2026-01-02 00:00:01", "2026-01-02 00:00:09", "8, told in 2 events", "1 of 8", "logged", "83 of 100"):
        assert shown in text
    assert page.locator("td.request").all_inner_texts() == ["/b", "/a"]

    page.get_by_role("button", name="Acknowledge").click()
    page.get_by_text("acknowledged", exact=True).wait_for()
    assert [one["correlation_key"] for one in incidents(backend, "acknowledged")] == ["k"]
    here = page.url

    page.get_by_role("button", name="Ban 192.0.2.7").click()
    page.get_by_text("Saved as version 1").wait_for()
    assert backend.rules().ip_blacklist == ["192.0.2.7"]
    page.goto(here)
    assert page.get_by_text("banned", exact=True).is_visible()
    assert page.get_by_role("button", name="Ban").count() == 0

    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Open again").wait_for()
    assert [one["correlation_key"] for one in incidents(backend, "closed")] == ["k"]
    context.close()


def test_a_client_that_fails_to_log_in_while_many_do_leads_to_their_campaign_and_back(
    backend: RunningBackend, page: Page
) -> None:
    def failed(key: str, address: str, minute: int) -> dict[str, object]:
        at = f"2026-01-02T12:{minute:02}:00Z"
        return of(key, event_type="authentication_failed", ip_address=address, timestamp=at)

    send(
        backend,
        failed("ann", "192.0.2.7", 0),
        failed("bob", "192.0.2.8", 1),
        of(
            "campaign",
            event_type="behavioral_violation",
            ip_address="192.0.2.9",
            rule_type="campaign",
            timestamp="2026-01-02T12:02:00Z",
            metadata={"pattern": "logins_from_many_addresses"},
        ),
        of(
            "campaign",
            event_type="behavioral_violation",
            ip_address="192.0.2.9",
            rule_type="campaign",
            timestamp="2026-01-02T12:03:00Z",
            metadata={"pattern": "paths_from_many_addresses"},
        ),
        of("later", event_type="authentication_failed", timestamp="2026-01-02T13:30:00Z", ip_address="192.0.2.10"),
        of("scan", timestamp="2026-01-02T12:02:00Z", ip_address="192.0.2.11"),
    )
    page.goto(f"{backend.url}/incidents")
    page.get_by_role("link", name="192.0.2.7").click()
    page.get_by_role("heading", name="Part of a campaign?").wait_for()
    page.get_by_role("link", name="Campaign: failed logins, scans by many addresses").click()
    page.get_by_role("heading", name="Clients that failed to log in at that time").wait_for()
    around = page.get_by_role("region", name="Clients that failed to log in at that time")
    assert around.get_by_role("link").all_inner_texts() == ["192.0.2.8", "192.0.2.7"]
    assert page.get_by_role("heading", name="Part of a campaign?").count() == 0
    around.get_by_role("link", name="192.0.2.8").click()
    page.get_by_role("heading", name="Part of a campaign?").wait_for()

    for another in ("192.0.2.10", "192.0.2.11"):
        page.goto(f"{backend.url}/incidents")
        page.get_by_role("link", name=another).click()
        page.get_by_role("heading", name="What happened").wait_for()
        assert page.get_by_role("heading", name="Part of a campaign?").count() == 0


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_severities_are_words_that_stand_upright(backend: RunningBackend, page: Page) -> None:
    send(backend, of("k"), of("m", event_type="rate_limited"))
    page.goto(f"{backend.url}/incidents")
    turned = page.locator(".incident-marks .state").evaluate_all(
        "(marks) => marks.map((m) => getComputedStyle(m).transform)"
    )
    assert set(turned) == {"none"}
    page.goto(f"{backend.url}/events?event_type=rate_limited")
    mark = page.locator("#rows .severity").first
    filled, edge = mark.evaluate(
        "(one) => [getComputedStyle(one).backgroundColor, getComputedStyle(one).borderTopColor]"
    )
    assert filled == edge


def test_the_links_lead_to_its_events(backend: RunningBackend, page: Page) -> None:
    send(
        backend,
        of("k", timestamp="2026-01-02T00:00:01.5Z", reason="mine"),
        of("k", timestamp="2026-01-02T00:00:09.9Z", reason="mine"),
        event(ip_address="192.0.2.7", timestamp="2026-01-02T00:00:11Z", reason="later"),
        event(ip_address="192.0.2.8", timestamp="2026-01-02T00:00:05Z", reason="another"),
    )
    page.goto(f"{backend.url}/incidents/1")
    page.get_by_role("link", name="192.0.2.7").click()
    page.wait_for_url("**/events?**address=192.0.2.7**")
    assert page.locator("#rows td.reason").all_inner_texts() == ["mine", "mine"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_it_works_by_keyboard(backend: RunningBackend, page: Page) -> None:
    send(backend, of("k"))
    page.goto(f"{backend.url}/incidents")
    page.get_by_role("link", name="Attacks by").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/incidents/1**")
    reached: list[str] = []
    while "Ban 192.0.2.7" not in reached and len(reached) < 30:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent").strip())
    assert {"Acknowledge", "Close", "Ban 192.0.2.7"} <= set(reached)
    page.keyboard.press("Enter")
    page.get_by_text("Saved as version 1").wait_for()
    assert backend.rules().ip_blacklist == ["192.0.2.7"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_address_of_ipv6_is_banned_with_its_network(backend: RunningBackend, page: Page) -> None:
    send(backend, of("k", ip_address="2001:db8:7::1"), of("k", ip_address="2001:db8:7::2"))
    page.goto(f"{backend.url}/incidents/1")
    page.get_by_role("button", name="Ban 2001:db8:7::/64").first.click()
    page.get_by_text("Saved as version 1").wait_for()
    assert backend.rules().ip_blacklist == ["2001:db8:7::/64"]
    page.goto(f"{backend.url}/incidents/1")
    assert page.get_by_text("banned", exact=True).count() == 2


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_is_no_address_is_not_offered_for_a_ban(backend: RunningBackend, page: Page) -> None:
    send(backend, of("k", ip_address="10.0.0.0/8"), of("k", ip_address="hash:5f0c"))
    page.goto(f"{backend.url}/incidents/1")
    assert page.locator(".incident-addresses a").all_inner_texts() == ["hash:5f0c", "10.0.0.0/8"]
    assert page.get_by_role("button", name="Ban").count() == 0


HOSTILE = (
    "<script>window.attacked = true</script>\"'><img src=x onerror=window.attacked=true>{{ 7 * 7 }}\u202e" + "W" * 400
)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_whatever_was_sent_is_text_and_fits_the_window(
    backend: RunningBackend, browser: Browser, width: int, theme: str
) -> None:
    texts = dict.fromkeys(("event_type", "ip_address", "endpoint", "reason", "action_taken", "method"), HOSTILE)
    send(backend, of(HOSTILE, **texts), of("many", ip_address="2001:db8::" + "f" * 99, endpoint="/x" * 200))
    context = browser.new_context(
        viewport={"width": width, "height": 740}, color_scheme="dark" if theme == "dark" else "light"
    )
    page = context.new_page()
    for path in ("/incidents", "/incidents/1", "/incidents/2"):
        page.goto(backend.url + path)
        assert page.evaluate("window.attacked") is None
        assert page.locator("main img, main script").count() == 0
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{path} is {wide} pixels wider than the window"
    assert "\u202e" not in page.goto(f"{backend.url}/incidents/1").text()  # type: ignore[union-attr]  # it answers
    context.close()
