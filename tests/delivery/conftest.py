"""Requests of these tests go where they say, and no shutdown of an earlier test counts."""

from __future__ import annotations

import os

import pytest

from opentelemetry_guard.process_end import CLOCK


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_shutdown_yet() -> None:
    CLOCK.reset()
