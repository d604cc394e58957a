"""The pages of alerts in a browser, in front of a real backend and a real receiver."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend
from support.raw_server import RawServer, answer, raw_server
from support.sending import batch, event, post

from opentelemetry_guard.events.enrichment import CORRELATION_KEY, THREAT_SCORE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
HOSTILE = "<script>window.attacked = true</script>\"'><img src=x onerror=window.attacked=true>{{ 7 * 7 }}\u202e"
RULES: list[dict[str, object]] = [
    {"name": "burst", "when": "events", "event_type": "ip_blocked", "threshold": 2, "window": "5m", "severity": "high"},
    {"name": "attacker", "when": "incident"},
    {"name": "new address", "when": "new_address", "severity": "low"},
]


@pytest.fixture
def receiver() -> Iterator[RawServer]:
    with raw_server(answer(b"HTTP/1.1 204 No Content\r\n\r\n")) as server:
        yield server


@pytest.fixture
def backend(receiver: RawServer, tmp_path: Path, database: Path | URL) -> Iterator[RunningBackend]:
    hook = {"type": "webhook", "url": f"http://127.0.0.1:{receiver.port}/s3cr3t", "secret": SECRET}
    broken = {**hook, "url": "http://127.0.0.1:1/s3cr3t"}
    said = {"every": 1, "rules": RULES, "channels": {"ops": hook, "broken": broken}}
    file = tmp_path / "alerts.json"
    file.write_text(json.dumps(said))
    with running_backend(db=database, alerts=str(file)) as running:
        yield running


def send(backend: RunningBackend, *events: dict[str, object]) -> None:
    body = {**batch(events=list(events)), "project_id": backend.project}
    assert post(backend, "/api/v1/events", body).status_code == 200


def now(**fields: Any) -> dict[str, object]:
    return event(timestamp=datetime.now(timezone.utc).isoformat(), **fields)


def found(page: Page, url: str, *texts: str) -> str:
    """Load the list until it has the texts, and return all of it: the page is not one that changes by itself."""
    page.goto(url)
    for _ in range(600):
        shown = page.locator("main").inner_text()
        if all(text in shown for text in texts):
            return shown
        page.wait_for_timeout(100)
        page.reload()
    raise AssertionError(page.locator("main").inner_text())


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_an_alert_is_found_told_acknowledged_and_closed(
    backend: RunningBackend, receiver: RawServer, browser: Browser, scripts: bool
) -> None:
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    page.goto(backend.url)
    page.get_by_role("link", name="Alerts").click()
    page.get_by_text("No alert yet").wait_for()
    send(backend, now(), now())
    text = found(page, f"{backend.url}/alerts", "2 events in 5 min (threshold 2)", "works", "fails")
    for shown in ("at least 2 events of type ip_blocked in 5 min", "an incident of high severity", "refused"):
        assert shown in text
    assert not [secret for secret in ("s3cr3t", SECRET) if secret in page.content()]
    page.get_by_role("link", name="burst").click()
    page.wait_for_url("**/alerts/1?**")
    assert "2 events in 5 min (threshold 2): ip_blocked" in page.locator("main").inner_text()
    page.get_by_role("button", name="Acknowledge").click()
    page.get_by_text("acknowledged", exact=True).wait_for()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Open again").wait_for()
    page.goto(f"{backend.url}/alerts")
    page.get_by_label("State").select_option("open")
    page.get_by_role("button", name="Filter").click()
    page.get_by_text("No alert matches").wait_for()
    context.close()
    assert [json.loads(request.partition(b"\r\n\r\n")[2])["data"]["rule"] for request in receiver.requests] == ["burst"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_an_alert_of_an_incident_leads_to_it_by_keyboard(backend: RunningBackend, page: Page) -> None:
    metadata = {CORRELATION_KEY: "k", THREAT_SCORE: 83}
    send(backend, now(event_type="penetration_attempt", ip_address="192.0.2.7", metadata=metadata))
    found(page, f"{backend.url}/alerts", "1 request of 192.0.2.7")
    page.get_by_role("link", name="attacker").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/alerts/1?**")
    reached: list[str] = []
    while "Show it with its events" not in reached and len(reached) < 30:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent").strip())
    assert {"Acknowledge", "Close", "Show it with its events"} <= set(reached)
    page.keyboard.press("Enter")
    page.wait_for_url("**/incidents/1?**")
    assert page.get_by_role("heading", name="192.0.2.7").is_visible()


def test_without_a_file_the_page_says_how_to_begin(page: Page) -> None:
    with running_backend() as plain:
        page.goto(f"{plain.url}/alerts")
        assert page.get_by_text("No rules yet").is_visible()
        assert page.get_by_text("opentelemetry-guard backend --alerts alerts.toml").is_visible()
        assert page.goto(f"{plain.url}/alerts/1").status == 404  # type: ignore[union-attr]  # it answers


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_whatever_was_sent_is_text_and_fits_the_window(
    backend: RunningBackend, browser: Browser, width: int, theme: str
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 740}, color_scheme="dark" if theme == "dark" else "light"
    )
    page = context.new_page()
    user = {"user": HOSTILE + "W" * 300}
    send(backend, now(event_type="login", ip_address="2001:db8::1", metadata=user))
    send(backend, now(event_type="login", ip_address="f" * 400, metadata=user))
    found(page, f"{backend.url}/alerts", "The user")
    for path in ("/alerts", "/alerts/1"):
        page.goto(backend.url + path)
        assert page.evaluate("window.attacked") is None
        assert page.locator("main img, main script").count() == 0
        assert "\u202e" not in page.content()
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{path} is {wide} pixels wider than the window"
    context.close()
