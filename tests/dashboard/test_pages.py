"""The dashboard in a browser, in front of a real backend."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.backend import RunningBackend, running_backend
from support.pipeline import pipeline
from support.seed import PROJECT, seed
from support.sending import batch, event, post

from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.exporters.log import GuardLogExporter

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TRACE_URL = "http://127.0.0.1:16686/trace/{trace_id}"
PAGES = [
    "/",
    "/?window=7d",
    "/events",
    "/events?event_type=none",
    "/incidents",
    "/incidents/1",
    "/alerts",
    "/agents",
    "/rules",
    "/time-zone",
    "/login",
    "/no-such-page",
]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBackend]:
    """A backend with a busy hour behind it."""
    db = tmp_path_factory.mktemp("dashboard") / "backend.db"
    with closing(Store(db)) as store:
        seed(store, 400)
    with running_backend(project=PROJECT, db=db, trace_url=TRACE_URL) as running:
        yield running


@pytest.fixture
def empty() -> Iterator[RunningBackend]:
    with running_backend(trace_url=TRACE_URL) as running:
        yield running


def send(backend: RunningBackend, *events: dict[str, object]) -> None:
    body = {**batch(events=list(events)), "project_id": backend.project}
    assert post(backend, "/api/v1/events", body).status_code == 200


def test_an_event_that_an_application_emits_shows_without_a_reload(empty: RunningBackend, page: Page) -> None:
    page.goto(f"{empty.url}/events")
    assert page.get_by_text("Nothing has arrived yet").is_visible()
    page.evaluate("window.loadedOnce = true")
    exporter = GuardLogExporter(endpoint=empty.url, api_key=empty.api_key, project_id=empty.project)
    with pipeline(logs=[exporter]) as sending:
        sending.emitter.emit_event(event_type="custom_rule_triggered", ip_address="192.0.2.7", reason="seen live")
        page.get_by_role("link", name="custom_rule_triggered").wait_for()
    assert page.get_by_text("seen live").is_visible()
    assert page.get_by_text("Nothing has arrived yet").is_hidden()
    assert page.evaluate("window.loadedOnce") is True


def test_live_rows_are_those_of_the_filter_and_in_the_order_of_their_time(empty: RunningBackend, page: Page) -> None:
    send(empty, event(event_type="wanted", reason="second", timestamp="2026-01-02T00:00:02Z"))
    page.goto(f"{empty.url}/events?event_type=wanted")
    send(
        empty,
        event(event_type="unwanted", reason="never"),
        event(event_type="wanted", reason="first", timestamp="2026-01-02T00:00:01Z"),
        event(event_type="wanted", reason="third", timestamp="2026-01-02T00:00:03Z"),
    )
    page.get_by_text("third").wait_for()
    assert page.locator("td.reason").all_inner_texts() == ["third", "second", "first"]


def test_new_events_are_told_to_who_does_not_see_them(empty: RunningBackend, page: Page) -> None:
    page.goto(f"{empty.url}/events")
    send(empty, event(), event())
    page.get_by_role("status").filter(has_text="2 new events at").wait_for(state="attached")


def test_live_rows_go_on_where_the_newest_rows_were_deleted(empty: RunningBackend) -> None:
    answer = empty.http.get(f"{empty.url}/events/rows?after=7", timeout=60)
    assert (answer.status_code, answer.headers["X-Newest-Id"], answer.text.strip()) == (200, "0", "")


def test_a_pause_holds_the_table_and_going_on_catches_up(empty: RunningBackend, page: Page) -> None:
    send(empty, event(reason="before"))
    page.goto(f"{empty.url}/events")
    page.get_by_role("button", name="Pause").click()
    send(empty, event(reason="meanwhile"))
    assert page.get_by_text("Paused").is_visible()
    assert page.get_by_text("meanwhile").count() == 0
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("meanwhile").wait_for()


def test_a_filter_shows_what_matches_and_nothing_else(backend: RunningBackend, page: Page) -> None:
    page.goto(f"{backend.url}/events")
    page.get_by_label("Type").select_option("penetration_attempt")
    page.get_by_label("Endpoint").fill("/sea*")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**/events?*event_type=penetration_attempt*")
    assert set(page.locator("td.type a").all_inner_texts()) == {"Attack in a request"}
    assert set(page.locator("td.type .raw").all_inner_texts()) == {"penetration_attempt"}
    page.get_by_role("link", name="Clear").click()
    page.wait_for_url(lambda url: "event_type" not in url)
    assert len(set(page.locator("td.type").all_inner_texts())) > 1


def test_a_filter_that_matches_nothing_says_so_and_offers_the_way_back(backend: RunningBackend, page: Page) -> None:
    page.goto(f"{backend.url}/events?address=198.51.100.200")
    assert page.get_by_text("No event matches").is_visible()
    page.get_by_role("link", name="show all events").click()
    page.locator("#rows tr").nth(49).wait_for()


def test_the_exports_hold_what_is_filtered(backend: RunningBackend, page: Page) -> None:
    wanted = [row for row in backend.events() if row["event_type"] == "ip_banned"]
    page.goto(f"{backend.url}/events?event_type=ip_banned")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    lines = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert sorted(line["idempotency_key"] for line in lines) == sorted(row["idempotency_key"] for row in wanted)
    assert download.value.suggested_filename.endswith(".csv")
    with page.expect_download() as download:
        page.get_by_label("Format").select_option("json")
        page.get_by_role("button", name="Export").click()
    rows = json.loads(Path(download.value.path()).read_text())
    assert sorted(row["idempotency_key"] for row in rows) == sorted(row["idempotency_key"] for row in wanted)


def test_older_events_are_on_the_next_page(backend: RunningBackend, page: Page) -> None:
    page.goto(f"{backend.url}/events")
    first = page.locator("#rows tr").first.get_attribute("data-id")
    page.get_by_role("link", name="Older").click()
    page.wait_for_url("**before=**")
    assert page.locator(f"#rows tr[data-id='{first}']").count() == 0
    assert page.locator("#rows tr").count() == 50
    assert page.get_by_role("button", name="Pause").count() == 0


def test_the_detail_has_every_field_and_links_to_the_trace(empty: RunningBackend, page: Page) -> None:
    trace_id, span_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    metadata = {"trace_id": trace_id, "span_id": span_id, "nested": {"deep": [1, None]}}
    send(
        empty,
        event(
            country="DE", user_agent="curl/8", handler_name="h1", metadata=metadata, of_our_own="further", method="PUT"
        ),
    )
    page.goto(f"{empty.url}/events")
    page.get_by_role("link", name="Address refused").click()
    page.wait_for_url(re.compile(r"/events/\d+"))
    text = page.locator("main").inner_text()
    for shown in ("DE", "curl/8", "h1", "PUT", '"deep"', "of_our_own", "further", trace_id, span_id):
        assert shown in text
    assert page.get_by_role("link", name="Open the trace").get_attribute("href") == TRACE_URL.format(trace_id=trace_id)


def test_the_overview_counts_and_refreshes_by_itself(empty: RunningBackend, page: Page) -> None:
    page.goto(empty.url)
    assert page.get_by_text("Nothing has arrived yet").is_visible()
    now = page.evaluate("new Date().toISOString()")
    send(empty, *[event(timestamp=now, ip_address="192.0.2.9", action_taken="blocked") for _ in range(3)])
    page.get_by_role("link", name="192.0.2.9").wait_for()
    assert page.locator(".figures").get_by_text("100 %").is_visible()
    assert page.locator("svg[role=img] rect[class^='s-']").count() >= 1


def test_an_agent_shows_with_its_ledger_and_errors_and_the_list_refreshes_by_itself(
    empty: RunningBackend, page: Page
) -> None:
    page.goto(f"{empty.url}/agents")
    assert page.get_by_text("No agent has reported yet").is_visible()
    status = {"status": "degraded", "uptime": 7200, "events_sent": 1234, "events_failed": 5, "errors": ["503 twice"]}
    post(empty, "/api/v1/status", status, X_Agent_Install_Id="install-1", User_Agent="opentelemetry-guard/9.9")
    page.get_by_role("heading", name="install-1").wait_for()
    text = page.locator(".agent").inner_text()
    for shown in ("degraded", "1,234", "opentelemetry-guard/9.9", "2 h", "503 twice"):
        assert shown in text
    assert re.search(r"seen (just now|\d+ s ago)", text)


ATTACKS = [
    "<script>window.attacked = true</script>",
    "<img src=x onerror='window.attacked=true'>",
    "\"'><svg onload=window.attacked=true>",
    "javascript:window.attacked=true",
    "{{ 7 * 7 }}",
]


def test_text_from_an_attacker_is_text_on_every_page(empty: RunningBackend, page: Page) -> None:
    now = page.evaluate("new Date().toISOString()")
    post(
        empty,
        "/api/v1/status",
        {"status": "failed", "uptime": 1, "errors": ATTACKS},
        X_Agent_Install_Id="<script>window.attacked = true</script>",
    )
    page.goto(f"{empty.url}/events")
    send(
        empty,
        *[
            event(
                timestamp=now,
                event_type=attack,
                ip_address=attack,
                endpoint=attack,
                user_agent=attack,
                reason=attack,
                action_taken=attack,
                method=attack,
                metadata={attack: attack, "trace_id": attack, "span_id": attack},
            )
            for attack in ATTACKS
        ],
    )
    # Both ways to the page: put in by the script, and made with the page.
    page.get_by_role("link", name=ATTACKS[0]).wait_for()
    paths = ["/events", "/", "/agents", *(f"/events/{number}" for number in range(1, len(ATTACKS) + 1))]
    for path in paths:
        page.goto(empty.url + path)
        assert page.evaluate("window.attacked") is None
        assert page.locator("main img, main script").count() == 0
        assert page.locator("a[href^='javascript:']").count() == 0
    page.goto(f"{empty.url}/events/1")
    assert ATTACKS[0] in page.locator("main").inner_text()


def test_characters_that_would_hide_or_turn_text_are_spelled_out(empty: RunningBackend, page: Page) -> None:
    send(empty, event(endpoint="/\u202egpj.exe", reason="a\u0000b", metadata={"k": "\u2066x"}))
    page.goto(f"{empty.url}/events")
    row = page.locator("#rows tr").inner_text()
    assert "/\\u202egpj.exe" in row
    assert "a\\u0000b" in row
    page.goto(f"{empty.url}/events/1")
    assert "\\u2066x" in page.locator("main").inner_text()


def test_only_an_address_is_offered_for_a_ban(empty: RunningBackend, page: Page) -> None:
    send(empty, event(ip_address="2001:db8::1"), event(ip_address="hash:5f0c"))
    page.goto(f"{empty.url}/events/1")
    assert page.get_by_role("button", name="Ban 2001:db8::1").is_visible()
    page.goto(f"{empty.url}/events/2")
    assert page.get_by_role("button", name="Ban").count() == 0


@pytest.mark.parametrize("width", [360, 1440])
def test_long_texts_leave_every_column_in_sight(empty: RunningBackend, browser: Browser, width: int) -> None:
    long = "W" * 200
    send(
        empty,
        event(event_type=long, ip_address=long, endpoint=long, reason=long, action_taken=long, method=long),
        event(event_type="short"),
    )
    context = browser.new_context(viewport={"width": width, "height": 740})
    page = context.new_page()
    page.goto(f"{empty.url}/events")
    hidden = page.locator(".scroll:has(#rows)").evaluate("(table) => table.scrollWidth - table.clientWidth")
    heights = page.locator("#rows tr").evaluate_all("(rows) => rows.map((row) => row.offsetHeight)")
    context.close()
    assert hidden <= 0
    assert max(heights) < 400


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_no_page_is_wider_than_the_window(backend: RunningBackend, browser: Browser, width: int, theme: str) -> None:
    send(
        backend,
        event(event_type="long_" * 40, endpoint="/x" * 200, reason="y" * 300, ip_address="2001:db8::" + "f" * 99),
    )
    status = {"status": "failed", "uptime": 1e9, "events_sent": 10**15, "errors": ["z" * 300]}
    post(backend, "/api/v1/status", status, X_Agent_Install_Id="i" * 99, User_Agent="u" * 300)
    context = browser.new_context(viewport={"width": width, "height": 740}, color_scheme=theme)
    page = context.new_page()
    for path in [*PAGES, "/events/1", "/events?event_type=" + "long_" * 40]:
        page.goto(backend.url + path)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{path} is {wide} pixels wider than the window"
    context.close()


def background(page: Page) -> str:
    found: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return found


def test_the_theme_follows_the_system_until_one_is_chosen_and_the_choice_stays(
    backend: RunningBackend, page: Page
) -> None:
    page.emulate_media(color_scheme="light")
    page.goto(backend.url)
    light = background(page)
    page.emulate_media(color_scheme="dark")
    dark = background(page)
    assert light != dark
    page.get_by_role("button", name="Use light colours").click()
    assert background(page) == light
    page.goto(f"{backend.url}/agents")
    assert background(page) == light
    page.get_by_role("button", name="Use dark colours").click()
    assert background(page) == dark


def test_everything_can_be_reached_and_used_with_the_keyboard(backend: RunningBackend, page: Page) -> None:
    page.goto(f"{backend.url}/events")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.goto(f"{backend.url}/events?event_type=ip_banned")
    controls = page.evaluate(
        """() => {
            const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary')];
            const usable = all.filter((one) => one.type !== 'hidden' && one.checkVisibility());
            usable.forEach((one, number) => { one.dataset.control = number; });
            return usable.length;
        }"""
    )
    reached: set[str] = set()
    # A field for a time has several places to stop at.
    for _ in range(controls + 30):
        page.keyboard.press("Tab")
        control, outlined = page.evaluate(
            """() => {
                const style = getComputedStyle(document.activeElement);
                const outlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
                return [document.activeElement.dataset.control ?? null, outlined];
            }"""
        )
        # Of the places within a field for a time, the browser outlines some itself.
        if outlined and control is not None:
            reached.add(control)
    assert len(reached) == controls, "a control can't be reached, or doesn't show that it has the focus"
    page.get_by_label("Type").focus()
    page.keyboard.type("too many")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**event_type=rate_limited**")


@pytest.mark.parametrize("path", [path for path in PAGES if path != "/login"])
def test_every_control_and_picture_has_a_name(backend: RunningBackend, page: Page, path: str) -> None:
    page.goto(backend.url + path)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('a, button, input, select, textarea, [role=img], [role=region]')]
            .filter((one) => one.type !== 'hidden' && one.checkVisibility())
            .filter((one) => !(one.labels?.length || one.ariaLabel || one.textContent.trim()))
            .map((one) => one.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("path", [*PAGES, "/events/1"])
def test_what_is_touched_is_large_enough(backend: RunningBackend, page: Page, path: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(backend.url + path)
    # WCAG 2.2, 2.5.8: 24 pixels, but for links within a sentence.
    small = page.evaluate(
        """() => [...document.querySelectorAll('a, button, input, select, textarea, summary')]
            .filter((one) => one.type !== 'hidden' && one.checkVisibility() && !one.closest('p, .unseen, .skip'))
            .filter((one) => !one.matches('.unseen, .skip'))
            .filter((one) => { const box = one.getBoundingClientRect(); return box.width < 24 || box.height < 24; })
            .map((one) => one.outerHTML)"""
    )
    assert small == []


def test_the_severity_of_an_event_is_seen_in_the_table(backend: RunningBackend, page: Page) -> None:
    page.goto(f"{backend.url}/events?event_type=penetration_attempt")
    page.locator("#rows tr").first.get_by_role("img", name="high severity").wait_for()
    page.goto(f"{backend.url}/events?event_type=rate_limited")
    page.locator("#rows tr").first.get_by_role("img", name="medium severity").wait_for()


def test_a_backend_that_is_gone_is_told_and_the_page_recovers(page: Page) -> None:
    with running_backend() as backend:
        page.goto(f"{backend.url}/events")
        backend.stop()
        page.get_by_text("The backend does not answer").wait_for()
        backend.start()
        send(backend, event(event_type="after_the_restart"))
        page.get_by_role("link", name="after_the_restart").wait_for()
        page.get_by_text("The backend does not answer").wait_for(state="hidden")
