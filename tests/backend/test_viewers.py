"""A viewer's key shows its project's pages and changes nothing, until it is revoked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from sqlalchemy import URL
from support.backend import RunningBackend, running_backend
from support.sending import batch, event, post

from opentelemetry_guard.backend.storage.keys import VIEWER, StoredKeys
from opentelemetry_guard.backend.storage.store import Store

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def backend(module_database: Path | URL) -> Iterator[RunningBackend]:
    with running_backend(db=module_database, password=PASSWORD) as running:
        body = batch(
            events=[event(reason="seen", ip_address="203.0.113.7", metadata={"guard.behavior.correlation_key": "k"})]
        )
        assert post(running, "/api/v1/events", body).status_code == 200
        with closing(Store(running.db)) as store:
            StoredKeys(store.database).create("secret project")
        yield running


def make(backend: RunningBackend, project: str = "test-project") -> tuple[int, str]:
    with closing(Store(backend.db)) as store:
        record, key = StoredKeys(store.database).create(project, role=VIEWER)
    return record.id, key


def token(answer: requests.Response) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]+)"', answer.text)
    assert found is not None
    return found[1]


def sign_in(backend: RunningBackend, http: requests.Session, secret: str) -> requests.Response:
    fields = {"form_token": token(http.get(f"{backend.url}/login", timeout=60)), "password": secret}
    return http.post(f"{backend.url}/login", data=fields, timeout=60, allow_redirects=False)


def signed_in(backend: RunningBackend, secret: str) -> requests.Session:
    http = requests.Session()
    http.trust_env = False
    assert sign_in(backend, http, secret).status_code == 303
    return http


def test_a_viewer_sees_every_page_of_the_project_and_no_other_one(backend: RunningBackend) -> None:
    with signed_in(backend, make(backend)[1]) as http:
        for path in ("/", "/events", "/events/1", "/events/export", "/incidents", "/incidents/1", "/agents", "/rules"):
            answer = http.get(backend.url + path, timeout=60)
            assert answer.status_code == 200, path
            assert "secret project" not in answer.text
            assert answer.url.endswith(path)
        assert http.get(f"{backend.url}/events?project=secret+project", timeout=60).status_code == 404
        for path in ("/local/events", "/local/summary", "/local/agents", "/local/incidents"):
            assert http.get(backend.url + path, timeout=60).status_code == 403


@pytest.mark.parametrize("path", ["/rules", "/rules/ban", "/rules/restore", "/incidents/1/state"])
def test_a_viewer_changes_nothing_and_is_told_so(backend: RunningBackend, path: str) -> None:
    with signed_in(backend, make(backend)[1]) as http:
        fields = {"form_token": token(http.get(f"{backend.url}/events", timeout=60)), "version": "0"}
        fields |= {"address": "203.0.113.1", "state": "closed", "ttl": "5", "ip_ban_duration": "60", "confirmed": "x"}
        answer = http.post(backend.url + path, data=fields, timeout=60)
    assert answer.status_code == 403
    assert "may see everything here, and change nothing" in answer.text
    rules = backend.http.get(f"{backend.url}/api/v1/rules", headers=backend.headers, timeout=60).json()
    assert rules["version"] == 0


def test_a_viewer_is_offered_no_change_and_the_owner_is(backend: RunningBackend) -> None:
    pages = ("/events/1", "/incidents/1", "/rules")
    with signed_in(backend, make(backend)[1]) as viewer, signed_in(backend, PASSWORD) as owner:
        for path in pages:
            shown = viewer.get(backend.url + path, timeout=60).text
            assert set(re.findall(r'method="post" action="([^"?]+)', shown)) == {"/time-zone", "/logout"}
            assert (
                len(re.findall(r'method="post" action="([^"?]+)', owner.get(backend.url + path, timeout=60).text)) > 2
            )


def test_a_viewer_may_choose_the_time_zone_and_sign_out(backend: RunningBackend) -> None:
    with signed_in(backend, make(backend)[1]) as http:
        fields = {"form_token": token(http.get(f"{backend.url}/events", timeout=60)), "zone": "Europe/Berlin"}
        assert "Europe/Berlin" in http.post(f"{backend.url}/time-zone", data=fields, timeout=60).text
        http.post(f"{backend.url}/logout", data=fields, timeout=60)
        assert "/login" in http.get(f"{backend.url}/events", timeout=60).url


def test_a_revoked_key_ends_the_session_at_once(backend: RunningBackend) -> None:
    number, key = make(backend)
    with signed_in(backend, key) as http:
        assert http.get(f"{backend.url}/events", timeout=60).url.endswith("/events")
        with closing(Store(backend.db)) as store:
            assert StoredKeys(store.database).revoke(number)
        assert "/login" in http.get(f"{backend.url}/events", timeout=60).url
        answer = http.get(f"{backend.url}/local/events", timeout=60)
        assert answer.status_code == 401
        # 429 where the tests have used the tries of their address up: the answer to a wrong one then.
        assert sign_in(backend, http, key).status_code in (401, 429)


def test_a_viewers_key_neither_sends_nor_enforces_but_follows(backend: RunningBackend) -> None:
    _, key = make(backend)
    headers = {"X-API-Key": key}
    body = batch(events=[event()])
    get = backend.http.get
    assert backend.http.post(f"{backend.url}/api/v1/events", json=body, headers=headers, timeout=60).status_code == 403
    answer = get(f"{backend.url}/api/v1/rules", headers=headers, timeout=60)
    assert answer.status_code == 403
    assert "viewer" in answer.json()["detail"]
    assert get(f"{backend.url}/api/v1/status", headers=headers, timeout=60).status_code == 403
    told = get(f"{backend.url}/local/feed", headers=headers, timeout=60).json()
    assert [one["event"]["reason"] for one in told["events"]] == ["seen"]


def test_a_key_for_sending_opens_no_dashboard(backend: RunningBackend) -> None:
    with closing(Store(backend.db)) as store:
        _, key = StoredKeys(store.database).create("test-project")
    with requests.Session() as http:
        http.trust_env = False
        assert sign_in(backend, http, key).status_code in (401, 429)
