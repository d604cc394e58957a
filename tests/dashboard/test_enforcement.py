"""From a click in the editor to a refused request in a running application."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from support.backend import ROOT, running_backend

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

APP = """
import socket, sys
import uvicorn
from fastapi import FastAPI
from opentelemetry_guard import GuardRulesMiddleware

app = FastAPI()
if "plain" not in sys.argv:
    app.add_middleware(GuardRulesMiddleware)

@app.get("/")
def hello() -> dict[str, str]:
    return {"hello": "world"}

listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
"""
FOLLOWS_WITHIN = 60.0
"""Seconds; a second is promised, to a machine that is not busy with other tests."""


@contextmanager
def application(environment: dict[str, str], directory: Path, options: Sequence[str] | None = None) -> Iterator[str]:
    """Run an application in a process of its own, and give its address.

    It enforces rules by itself; with `options` of ``opentelemetry-guard run`` it is a plain one, without code.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    variables = {**kept, **environment, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(directory / "application")}
    script = directory / "served.py"
    script.write_text(APP)
    command = [sys.executable, str(script)]
    if options is not None:
        command = [str(Path(sys.executable).with_name("opentelemetry-guard")), "run", *options, "--", *command, "plain"]
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(180, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        with process.stdout:
            port = int(process.stdout.readline())
            yield f"http://127.0.0.1:{port}"
    finally:
        watchdog.cancel()
        process.terminate()
        process.wait(60)


def refused(http: requests.Session, address: str) -> bool:
    """Whether a request is refused within the time in which a ban has to hold."""
    deadline = time.monotonic() + FOLLOWS_WITHIN
    while time.monotonic() < deadline:
        if http.get(address, timeout=60).status_code == 403:
            return True
    return False


@pytest.mark.parametrize("options", [None, ["--enforce"]])
def test_a_ban_in_the_editor_refuses_the_requests_of_a_running_application(
    page: Page, tmp_path: Path, options: list[str] | None
) -> None:
    with running_backend() as backend, requests.Session() as http:
        http.trust_env = False
        variables = {**backend.environment, "OTEL_PYTHON_GUARD_RULES_INTERVAL": "1"}
        with application(variables, tmp_path, options) as address:
            assert http.get(address, timeout=60).status_code == 200
            page.goto(f"{backend.url}/rules")
            page.get_by_label("Ban an address or range").fill("127.0.0.0/8")
            page.get_by_role("button", name="Ban now").click()
            page.get_by_role("button", name="Yes, save it").click()
            page.get_by_text("Saved as version 1").wait_for()
            page.get_by_role("status").get_by_text("1 running application asks for rules").wait_for()
            assert refused(http, address)


def test_nothing_is_promised_of_an_application_that_asks_for_no_rules(page: Page, tmp_path: Path) -> None:
    with running_backend() as backend, requests.Session() as http:
        http.trust_env = False
        variables = {**backend.environment, "OTEL_EXPORTER_GUARD_STATUS_INTERVAL": "1"}
        with application(variables, tmp_path, []) as address:
            assert http.get(address, timeout=60).status_code == 200
            page.goto(f"{backend.url}/rules")
            page.get_by_label("Ban an address or range").fill("127.0.0.0/8")
            page.get_by_role("button", name="Ban now").click()
            page.get_by_role("button", name="Yes, save it").click()
            page.get_by_role("status").get_by_text(
                re.compile("None of this project.s applications asks for rules")
            ).wait_for()
            page.goto(f"{backend.url}/agents")
            page.get_by_text("not enforced").wait_for()
            assert http.get(address, timeout=60).status_code == 200
