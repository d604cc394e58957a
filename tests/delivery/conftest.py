"""Requests of these tests go where they say, and no shutdown of an earlier test counts."""

from __future__ import annotations

import os

import pytest

from opentelemetry_guard.process.end import CLOCK

_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in _VARIABLES:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_shutdown_yet() -> None:
    CLOCK.reset()
