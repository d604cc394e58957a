"""Ban lists are got from whom their URL names, when they have changed, and within bounds."""

from __future__ import annotations

import base64
import gzip
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from opentelemetry_guard.backend.lists import fetching
from opentelemetry_guard.backend.lists.fetching import (
    Fetched,
    NotFetched,
    Validators,
    checked_url,
    fetch,
)
from opentelemetry_guard.backend.storage.ban_lists import shown_url

LIST = b"203.0.113.7\n"


class Publisher:
    """A server whose answers are by path: status, headers and body."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Mapping[str, str], bytes]] = {"/list": (200, {"ETag": '"1"'}, LIST)}
        self.asked: list[Mapping[str, str]] = []
        self.url = ""


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    made = Publisher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append({name.lower(): value for name, value in self.headers.items()})
            status, headers, body = made.answers[self.path]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()


def test_a_list_comes_with_what_says_its_state_which_the_next_question_names(publisher: Publisher) -> None:
    first = fetch(f"{publisher.url}/list", {"Key": "k"}, Validators())
    assert first == Fetched(LIST, Validators('"1"', ""))
    publisher.answers["/list"] = (304, {}, b"")
    assert fetch(f"{publisher.url}/list", {}, Validators('"1"', "yesterday")) is None
    assert publisher.asked[0]["key"] == "k"
    assert publisher.asked[1]["if-none-match"] == '"1"'
    assert publisher.asked[1]["if-modified-since"] == "yesterday"


def test_a_user_in_the_url_is_sent_as_credentials_and_never_shown(publisher: Publisher) -> None:
    url = publisher.url.replace("://", "://me:pass%20word@") + "/list"
    assert fetch(url, {}, Validators()) is not None
    assert publisher.asked[0]["authorization"] == "Basic " + base64.b64encode(b"me:pass word").decode()
    assert "me" not in publisher.asked[0]["host"]
    assert shown_url(f"{url}?key=secret") == f"{publisher.url}/list?…"


def test_a_redirect_is_followed_within_a_host_and_no_further(publisher: Publisher) -> None:
    publisher.answers["/old"] = (301, {"Location": "/list"}, b"")
    assert fetch(f"{publisher.url}/old", {}, Validators()) is not None
    publisher.answers["/old"] = (302, {"Location": publisher.url.replace("127.0.0.1", "localhost") + "/list"}, b"")
    with pytest.raises(NotFetched, match="another host"):
        fetch(f"{publisher.url}/old", {}, Validators())
    publisher.answers["/old"] = (307, {"Location": "/old"}, b"")
    with pytest.raises(NotFetched, match="more than 3 times"):
        fetch(f"{publisher.url}/old", {}, Validators())


@pytest.mark.parametrize("status", [401, 404, 429, 500, 204])
def test_another_status_is_no_list(publisher: Publisher, status: int) -> None:
    publisher.answers["/list"] = (status, {}, b"" if status == 204 else b"203.0.113.1")
    with pytest.raises(NotFetched, match=f"status {status}"):
        fetch(f"{publisher.url}/list", {}, Validators())


def test_a_list_is_bounded_before_and_after_decompression(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = gzip.compress(LIST)
    publisher.answers["/list"] = (200, {"Content-Encoding": "gzip"}, packed)
    found = fetch(f"{publisher.url}/list", {}, Validators())
    assert found is not None
    assert found.content == LIST
    monkeypatch.setattr(fetching, "MOST_BYTES", 1000)
    for headers, body in (({"Content-Encoding": "gzip"}, gzip.compress(b"x" * 5000)), ({}, b"x" * 5000)):
        publisher.answers["/list"] = (200, headers, body)
        with pytest.raises(NotFetched, match="larger than"):
            fetch(f"{publisher.url}/list", {}, Validators())


def test_nobody_there_is_no_list() -> None:
    with pytest.raises(NotFetched, match="refused"):
        fetch("http://127.0.0.1:1/list", {}, Validators())


@pytest.mark.parametrize(
    "url", ["", "file:///etc/passwd", "ftp://example.com/x", "http://", "https://a b/", "list.txt"]
)
def test_only_the_web_has_lists(url: str) -> None:
    with pytest.raises(ValueError, match="The URL of a ban list"):
        checked_url(url)
