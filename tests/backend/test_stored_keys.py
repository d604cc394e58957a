"""Keys of the database: made, listed and taken back while the backend runs."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import requests
from support.backend import ROOT, RunningBackend, running_backend
from support.sending import batch, event


def run(db: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-m", "opentelemetry_guard.cli", "backend", "keys", *arguments],
        env={**kept, "PYTHONPATH": str(ROOT), "OTEL_GUARD_BACKEND_DB": str(db)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def create(db: Path, *arguments: str) -> dict[str, str]:
    made = run(db, "create", "--json", *arguments)
    assert made.returncode == 0, made.stderr
    found: dict[str, str] = json.loads(made.stdout)
    return found


def send(backend: RunningBackend, key: str, project: str) -> requests.Response:
    body = {**batch(events=[event()]), "project_id": project}
    return backend.http.post(f"{backend.url}/api/v1/events", json=body, headers={"X-API-Key": key}, timeout=60)


def test_a_key_works_at_once_for_its_project_alone_until_it_is_revoked(tmp_path: Path) -> None:
    db = tmp_path / "backend.db"
    with running_backend(db=db) as backend:
        made = create(db, "--project", "shop", "--label", "production")
        assert send(backend, made["key"], "shop").status_code == 200
        assert send(backend, made["key"], "test-project").status_code == 403
        assert send(backend, backend.api_key, "test-project").status_code == 200
        assert run(db, "revoke", str(made["id"])).returncode == 0
        assert send(backend, made["key"], "shop").status_code == 401
        again = run(db, "revoke", str(made["id"]))
        assert again.returncode == 1
        assert again.stderr.startswith(f"Error: There is no valid key {made['id']}")


def test_a_key_can_have_a_limit_of_its_own(tmp_path: Path) -> None:
    db = tmp_path / "backend.db"
    with running_backend(db=db) as backend:
        made = create(db, "--project", "shop", "--rate-limit", "2")
        assert [send(backend, made["key"], "shop").status_code for _ in range(3)] == [200, 200, 429]
        assert send(backend, backend.api_key, "test-project").status_code == 200


def test_the_key_is_shown_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    db = tmp_path / "backend.db"
    printed = run(db, "create", "--project", "shop", "--label", "production").stdout
    (key,) = [word.partition("=")[2] for word in printed.split() if word.startswith("OTEL_EXPORTER_GUARD_API_KEY=")]
    assert key.startswith("guard_")
    listed = run(db, "list")
    assert "shop" in listed.stdout
    assert "production" in listed.stdout
    assert key not in listed.stdout
    with closing(sqlite3.connect(db)) as connection:
        dump = "\n".join(connection.iterdump())
    assert key not in dump
    assert json.loads(run(db, "list", "--json", "--project", "none").stdout) == []


def test_an_empty_project_is_one_line(tmp_path: Path) -> None:
    refused = run(tmp_path / "backend.db", "create", "--project", "")
    assert refused.returncode == 1
    assert refused.stderr == "Error: A project id is empty: give it at least one character.\n"


def test_a_viewers_key_is_made_and_listed_as_one(tmp_path: Path) -> None:
    db = tmp_path / "backend.db"
    made = run(db, "create", "--project", "shop", "--role", "viewer")
    assert made.returncode == 0, made.stderr
    assert "OTEL_EXPORTER_GUARD_API_KEY" not in made.stdout
    assert "sign in with it" in made.stdout
    listed = json.loads(run(db, "list", "--json").stdout)
    assert [(one["project"], one["role"]) for one in listed] == [("shop", "viewer")]
    wrong = run(db, "create", "--project", "shop", "--role", "admin")
    assert (wrong.returncode, wrong.stderr.strip()) == (
        1,
        "Error: A key has one of the roles sender, viewer, not admin.",
    )
