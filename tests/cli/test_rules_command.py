"""`opentelemetry-guard rules study` as a person meets it."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL
from support.backend import place_of
from support.commands import run

from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.models import DynamicRules, SecurityEvent


@pytest.fixture
def filled(database: Path | URL) -> Path | URL:
    """Three clients, one of them banned, one of whom has logged in."""
    answers = [("203.0.113.7", "/login", 200), ("203.0.113.8", "/x", 404), ("198.51.100.1", "/x", 404)]
    events = [
        SecurityEvent(
            event_type="suspicious_request",
            ip_address=address,
            endpoint=endpoint,
            method="POST",
            status_code=status,
            action_taken="logged",
        )
        for address, endpoint, status in answers
    ]
    with closing(Store(database)) as store:
        store.set_rules("shop", DynamicRules(ip_blacklist=["198.51.100.1"]))
        store.add("shop", "b", events, [], time.time() + 60)
    return database


def study(tmp_path: Path, database: Path | URL, content: object, *arguments: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "change.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return run(tmp_path, "rules", "study", str(file), "--project", "shop", "--db", place_of(database), *arguments)


def test_a_study_says_who_would_have_been_blocked_and_saves_nothing(tmp_path: Path, filled: Path | URL) -> None:
    result = study(tmp_path, filled, {"ip_blacklist": ["203.0.113.0/24"]})
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "Looked at 3 events of the project shop in the last 7 days."
    assert lines[1] == (
        "The change would have blocked 2 clients with 2 requests, of which 2 got through then. "
        "1 of these clients had successful requests, 1 logged in."
    )
    assert [line.split()[0] for line in lines[2:5]] == ["client", "203.0.113.7", "203.0.113.8"]
    assert "It would no longer have blocked 1 client:" in lines
    with closing(Store(filled)) as store:
        assert store.rules("shop").version == 1


def test_fields_that_the_file_does_not_have_stay_as_they_are(tmp_path: Path, filled: Path | URL) -> None:
    told: dict[str, Any] = json.loads(study(tmp_path, filled, {"blocked_countries": ["DE"]}, "--json").stdout)
    assert (told["events"], told["blocked"], told["let_in"], told["requests"]) == (3, [], [], 0)


def test_the_latest_events_alone_are_looked_at_and_it_says_so(tmp_path: Path, filled: Path | URL) -> None:
    result = study(tmp_path, filled, {}, "--most", "1")
    assert result.stdout.startswith(
        "Looked at 1 event of the project shop in the last 7 days, the latest of more (--most 1).\n"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not JSON"),
        ("[]", "has to hold an object"),
        ({"ip_blacklst": []}, "has 'ip_blacklst', which is no field of rules"),
        ({"ip_blacklist": "192.0.2.1"}, "has wrong rules: ip_blacklist: Input should be a valid list."),
    ],
)
def test_a_file_that_is_wrong_is_one_line(tmp_path: Path, content: object, told: str) -> None:
    result = study(tmp_path, tmp_path / "backend.db", content)
    assert (result.returncode, result.stdout) == (1, "")
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    result = run(tmp_path, "rules", "study", str(tmp_path / "none.json"), "--db", str(tmp_path / "b.db"))
    assert result.returncode == 1
    assert "can't be read: No such file or directory." in result.stderr
