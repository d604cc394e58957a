"""Lists are refreshed when they are due, and one that fails costs the others nothing."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import URL
from support.backend import place_of, running_backend
from support.commands import run
from support.redis import eventually
from support.sending import event, send

from opentelemetry_guard.backend.lists.fetching import Fetched, NotFetched, Validators
from opentelemetry_guard.backend.lists.refreshing import refresh
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.models import DynamicRules

LIST = "https://me:secret@lists.example/list"


def test_a_list_is_fetched_with_the_values_of_variables(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIST_KEY", " the key ")
    asked: list[tuple[str, Mapping[str, str], Validators]] = []

    def get(url: str, headers: Mapping[str, str], known: Validators) -> Fetched | None:
        asked.append((url, headers, known))
        return Fetched(b"203.0.113.7\n10.0.0.1\n", Validators('"1"'))

    store.lists.add("shop", LIST, 3600.0, {"Key": "LIST_KEY"})
    assert refresh(store.lists, get)
    assert not refresh(store.lists, get)
    assert asked == [(LIST, {"Key": "the key"}, Validators())]
    assert store.enforced_rules("shop").ip_blacklist == ["203.0.113.7"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"<html>", "none of its 1 entries"), (b"{", "it is not JSON"), (None, "no answer")],
)
def test_what_is_no_list_leaves_the_last_one_in_force_and_is_told(
    store: Store, content: bytes | None, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    def get(url: str, headers: Mapping[str, str], known: Validators) -> Fetched | None:
        if content is None:
            raise NotFetched("no answer")
        return Fetched(content, Validators())

    store.lists.add("shop", LIST, 60.0, {})
    assert refresh(store.lists, lambda url, headers, known: Fetched(b"203.0.113.7", Validators()))
    store.lists.add("shop", LIST, 60.0, {})
    assert refresh(store.lists, get)
    [shown] = store.lists.of("shop")
    assert problem in shown.problem
    assert store.enforced_rules("shop").ip_blacklist == ["203.0.113.7"]
    assert "https://lists.example/list" in caplog.text
    assert "secret" not in caplog.text


def test_a_variable_that_is_not_set_is_named_and_nobody_is_asked(store: Store) -> None:
    def get(url: str, headers: Mapping[str, str], known: Validators) -> Fetched | None:
        raise AssertionError("it must not be asked without its key")

    store.lists.add("shop", LIST, 3600.0, {"Key": "NO_SUCH_VARIABLE"})
    assert refresh(store.lists, get)
    assert store.lists.of("shop")[0].problem == "the variable NO_SUCH_VARIABLE is not set for the backend"


@pytest.fixture
def published(tmp_path: Path) -> Iterator[str]:
    """The URL of a list that somebody publishes."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "drop.txt").write_text("# a list\n203.0.113.0/24\n127.0.0.1\n")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "web"))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/drop.txt"
    server.shutdown()
    server.server_close()


def test_a_running_backend_hands_a_lists_bans_out_and_shows_them_apart(
    tmp_path: Path, database: Path | URL, published: str
) -> None:
    with running_backend(db=database) as backend:
        of_ours = ("--project", backend.project, "--db", place_of(database))
        backend.set_rules(DynamicRules(ip_blacklist=["192.0.2.1"]))
        added = run(tmp_path, "backend", "lists", "add", published, *of_ours)
        assert added.returncode == 0, added.stderr

        def banned() -> list[str] | None:
            answer = backend.http.get(f"{backend.url}/api/v1/rules", headers=backend.headers, timeout=20)
            bans: list[str] = answer.json()["ip_blacklist"]
            return bans if len(bans) > 1 else None

        assert eventually(banned, 60.0) == ["192.0.2.1", "203.0.113.0/24"]
        handed_out = DynamicRules.model_validate(
            backend.http.get(f"{backend.url}/api/v1/rules", headers=backend.headers, timeout=20).json()
        )
        assert handed_out.decide(ip="203.0.113.9").ban_list == published
        metadata = {"rule": "ip_blacklist", "ban_list": published}
        send(backend, event(reason="banned", metadata=metadata))
        of_event = backend.http.get(f"{backend.url}/events/1", timeout=20).text
        assert re.search(rf"<dt>Ban list</dt><dd>{re.escape(published)}</dd>", of_event)
        page = backend.http.get(f"{backend.url}/rules", timeout=20).text
        assert "Banned by lists" in page
        assert "1 banned, 1 entries passed over" in page
        assert ">192.0.2.1</textarea>" in page
        shown = run(tmp_path, "backend", "lists", "show", "--db", place_of(database)).stdout
        assert published in shown
        removed = run(tmp_path, "backend", "lists", "remove", published, *of_ours)
        assert removed.stdout == "The list is removed, and so are its bans.\n"
        eventually(lambda: banned() is None, 60.0)
        assert backend.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("add", "ftp://example.com/x"), "The URL of a ban list begins with"),
        (("add", "https://example.com/x", "--header", "Key"), "must be a name and a variable"),
        (("remove", "https://example.com/x"), "has no such list"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    result = run(tmp_path, "backend", "lists", *arguments, "--db", str(tmp_path / "b.db"))
    assert (result.returncode, result.stdout) == (1, "")
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
