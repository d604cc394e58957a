"""A browser for the tests that look at pages: one for those of a module, cut off from everything but this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support.browser import chromium, executable, keep_on_this_machine

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser that ends with the module: as long as it runs, no other test could run an event loop."""
    pytest.importorskip("playwright", reason="needs playwright")
    path = executable()
    if path is None:
        pytest.skip("needs Chromium: apt install chromium, or name it in CHROMIUM_PATH")
    with chromium(path) as running:
        yield running


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A visitor of their own, at 1440 pixels, whose requests to other machines fail the test."""
    opened = browser.new_context(viewport={"width": 1440, "height": 900})
    opened.set_default_timeout(60_000)
    refused = keep_on_this_machine(opened)
    yield opened
    opened.close()
    assert refused == [], "a page asked for something from another machine"


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page that must not report an error, nor break its own content security policy."""
    complaints: list[str] = []
    opened = context.new_page()
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "console",
        lambda message: complaints.append(message.text) if "Content Security Policy" in message.text else None,
    )
    yield opened
    assert complaints == []


@pytest.fixture(params=[True, False], ids=["scripts", "no scripts"])
def visitor(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A visitor with and without scripts, at 1280 pixels."""
    context = browser.new_context(java_script_enabled=request.param, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()
