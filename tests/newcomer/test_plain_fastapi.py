"""A newcomer with a plain FastAPI application follows the README."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from support.backend import ROOT
from support.pages import codes
from support.terminal import ACTIVATE, Terminal, ban_on_dashboard, newcomer

pytestmark = pytest.mark.slow

_, LOCAL = codes("README.md", "sh", under="Use it")
INSTALL, RUN = LOCAL.splitlines(keepends=True)
EMIT = next(code for code in codes("README.md", "python") if "emit_event" in code)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    with newcomer(tmp_path_factory.mktemp("plain"), INSTALL) as opened:
        yield opened


def test_the_readme_ends_with_an_event_and_a_ban_that_holds(terminal: Terminal) -> None:
    # The newcomer's own application, and an event of its own as the README has it.
    shutil.copy(ROOT / "examples" / "zero-code" / "app.py", terminal.directory / "main.py")
    with (terminal.directory / "main.py").open("a") as code:
        code.write(f"\n\n{EMIT}")
    # Several clients are played from one machine.
    terminal.environment["OTEL_PYTHON_GUARD_TRUSTED_PROXIES"] = "127.0.0.1"
    attacker = {"X-Forwarded-For": "203.0.113.9"}
    with terminal.running(ACTIVATE + RUN) as example:
        wrong = {"user": "ada", "password": "?"}
        assert example.request("/login", "POST", json=wrong, headers=attacker).status_code == 401
        assert example.event("authentication_failed")["ip_address"] == "203.0.113.9"
        assert example.event("coupon_guessed")["reason"] == "the 20th wrong one of an hour"
        ban_on_dashboard(example, example.backend(), "203.0.113.9")
        example.eventually(lambda: example.request("/items/1", headers=attacker).status_code == 403)
        assert example.request("/items/1").status_code == 200
        assert "Traceback" not in example.output()
