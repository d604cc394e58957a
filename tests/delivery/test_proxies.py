"""A backend is reached through the proxy that the environment names for it."""

from __future__ import annotations

from base64 import b64encode

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.raw_server import answer, raw_server

from opentelemetry_guard.delivery.outcome import Verdict
from opentelemetry_guard.delivery.proxies import proxy_of
from opentelemetry_guard.delivery.transport import HTTPTransport
from opentelemetry_guard.queue.base import Batch
from opentelemetry_guard.settings.delivery import GuardConfig

URLS = (
    "https://guard.example/api",
    "http://guard.example:8080",
    "https://in.guard.example",
    "https://badguard.example",
    "http://192.0.2.7",
    "http://192.0.2.7:8080/a?b=c",
    "http://localhost:8000",
)
PROXIES = ("", "proxy.example:3128", "http://proxy.example:3128", "https://bob:s3cret@proxy.example", "socks5://a:1")
EXCEPTED = (
    *("", "*", "example", ".example", "guard.example", ".guard.example", "guard.example:8080", "guard.example:1"),
    *("192.0.2.7", "192.0.2.0/24", "192.0.3.0/24", "192.0.2.7:8080", "localhost", "GUARD.example", "0/8", "a/b"),
)


@given(
    st.sampled_from(URLS),
    st.fixed_dictionaries({name: st.sampled_from(PROXIES) for name in ("http_proxy", "HTTPS_PROXY", "all_proxy")}),
    st.lists(st.sampled_from(EXCEPTED), max_size=3).map(", ".join),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_it_is_the_one_that_requests_would_take(
    monkeypatch: pytest.MonkeyPatch, url: str, variables: dict[str, str], excepted: str
) -> None:
    for name, value in {**variables, "NO_PROXY": excepted}.items():
        monkeypatch.setenv(name, value)
    theirs = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    assert (proxy_of(url) or "").removeprefix("http://") == (theirs or "").removeprefix("http://")


@pytest.mark.parametrize(
    ("host", "excepted", "proxied"),
    [("[2001:db8::1]", "2001:db8::/32", False), ("[2001:db8::1]", "::1", True), ("[::1]:8080", "::1", False)],
)
def test_a_network_may_be_of_either_family(
    monkeypatch: pytest.MonkeyPatch, host: str, excepted: str, proxied: bool
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", excepted)
    assert proxy_of(f"http://{host}") == ("http://proxy.example:3128" if proxied else None)


def test_a_proxy_is_told_the_user_and_password_that_its_url_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(answer()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://bob:s3%20cret@127.0.0.1:{proxy.port}")
        config = GuardConfig.resolve({}, endpoint="http://guard.example", api_key="key", timeout=20.0)
        outcome = HTTPTransport(config, lambda: "id").send(Batch("b", "events", 1, b"{}"))
        assert outcome.verdict is Verdict.ACCEPTED
        shown = b64encode(b"bob:s3 cret")
        assert b"proxy-authorization: basic " + shown.lower() in proxy.requests[0].lower()
