"""A newcomer with fastapi-guard follows its page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from support.pages import codes
from support.terminal import ACTIVATE, Terminal, ban_on_dashboard, newcomer

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("curl") is None, reason="the page asks for curl")]

PAGE, SECTION = "docs/fastapi-guard.md", "To an event and a ban"
INSTALL, RUN, ATTACK, VISIT = codes(PAGE, "sh", under=SECTION)
(APPLICATION,) = codes(PAGE, "python", under=SECTION)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    with newcomer(tmp_path_factory.mktemp("guarded"), INSTALL) as opened:
        yield opened


def test_the_page_ends_with_an_event_and_a_ban_that_holds(terminal: Terminal) -> None:
    (terminal.directory / "main.py").write_text(APPLICATION)
    with terminal.running(ACTIVATE + RUN) as example:
        assert example.request("/search").status_code == 200
        assert terminal.run(VISIT) == '{"query":""}'
        assert "query" not in terminal.run(ATTACK)
        event = example.event("penetration_attempt")
        assert (event["ip_address"], event["endpoint"]) == ("203.0.113.9", "/search")
        ban_on_dashboard(example, example.backend(), "203.0.113.9")
        example.eventually(lambda: terminal.run(VISIT) != '{"query":""}')
        assert example.request("/search").status_code == 200
        assert "Traceback" not in example.output()
