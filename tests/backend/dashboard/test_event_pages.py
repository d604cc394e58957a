"""The list says how far a look went that found too little for a page, and leads on from there."""

from __future__ import annotations

import html
import re
from datetime import datetime, timedelta, timezone

import pytest
from fastapi.testclient import TestClient

from opentelemetry_guard.backend.app import create_app
from opentelemetry_guard.backend.settings import BackendSettings
from opentelemetry_guard.backend.storage import looks as looks_module
from opentelemetry_guard.backend.storage.keys import ApiKeys
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.models import SecurityEvent

BEGIN = datetime(2026, 1, 31, 14, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize("asked", ["user_agent=odd", "event_type=odd&address=10.*"])
def test_a_look_that_ended_early_says_so_and_is_gone_on_with(
    store: Store, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr(looks_module, "STRETCH_ROWS", 4)
    monkeypatch.setattr(looks_module, "LOOK_SECONDS", 0.0)
    events = [
        SecurityEvent(
            event_type="odd" if number == 3 else "plain",
            user_agent="Odd/1.0" if number == 3 else "curl",
            ip_address="10.0.0.1",
            timestamp=BEGIN + timedelta(minutes=number),
        )
        for number in range(10)
    ]
    store.add("p", "b", events, [], BEGIN.timestamp() + 3600)
    app = create_app(store, BackendSettings(ApiKeys({"key": "p"})))
    with TestClient(app, base_url="http://127.0.0.1") as http:
        nothing = http.get(f"/events?project=p&{asked}").text
        assert "None among the 4 events that were looked at, back to 2026-01-31 14:06:00." in nothing
        found = http.get("/events" + further_back(nothing)).text
        assert "4 events were looked at, back to 2026-01-31 14:02:00." in found
        assert "None among" not in re.sub(
            r'<div class="none tall" id="no-rows" hidden>.*?</div>', "", found, flags=re.S
        )
        end = http.get("/events" + further_back(found)).text
        assert "Search further back" not in end
        assert "No event matches." in end


def further_back(page: str) -> str:
    link = re.search(r'href="/events([^"]*)" rel="next">Search further back<', page)
    assert link is not None
    return html.unescape(link[1])
