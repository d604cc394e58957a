"""`opentelemetry-guard demo`: it shows the whole road, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.commands import COMMAND, environment, run

from opentelemetry_guard.cli.demo.traffic import BURST, EXPECTED, GUESSER, GUESSES, HURRIED, INJECTOR, SCANNER


def _rows(printed: str) -> Counter[tuple[str, str, str]]:
    """Return how many events the table tells, by service, type and address."""
    found = re.findall(r"^ *(\d+)  (\w+) +(\w+) +([0-9a-f.:]+) +\S+ +/", printed, re.MULTILINE)
    rows: Counter[tuple[str, str, str]] = Counter()
    for number, *names in found:
        rows[names[0], names[1], names[2]] += int(number)
    return rows


@pytest.mark.slow
def test_the_demonstration_tells_all_that_came_of_what_it_sent_and_leaves_nothing(tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    # a service's own settings have no part in it
    settings = {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_GUARD_QUEUE_URL": "memory://"}
    result = run(home, "demo", TMPDIR=str(temporary), **settings)
    assert result.returncode == 0, result.stderr
    rows = _rows(result.stdout)
    stored = re.search(r"has stored (\d+) events", result.stdout)
    # Some are of no request: what fastapi-guard says of itself.
    assert stored is not None
    assert int(stored[1]) >= rows.total()
    assert "left out" not in result.stdout
    expected = {(name, kind) for name, kinds in EXPECTED.items() for kind in kinds}
    assert {(name, kind) for name, kind, _ in rows} >= expected
    assert rows["accounts", "authentication_failed", GUESSER] == GUESSES
    assert rows["shop", "rate_limited", HURRIED] == BURST - 20
    assert rows["accounts", "access_denied", SCANNER] == 1
    # The ban holds in both, and was not there before.
    assert re.search(rf"{INJECTOR} is banned: it got 200 and 200 and 200 before, and 403 everywhere", result.stdout)
    assert rows["shop", "ip_blocked", INJECTOR] >= 1
    assert rows["accounts", "ip_blocked", INJECTOR] >= 1
    assert rows["gateway", "ip_blocked", INJECTOR] >= 1
    # A table of the demonstration's own stands for a database of countries, in the shop and in fastapi-guard.
    assert re.search(rf"shop +rate_limited +{HURRIED} +AQ ", result.stdout)
    assert re.search(rf"gateway +ip_blocked +{HURRIED} +AQ ", result.stdout)
    assert "make demo KEEP=1" in result.stdout
    assert list(temporary.iterdir()) == []
    assert list(home.rglob("*.db")) == []


@pytest.mark.slow
def test_without_fastapi_guard_it_says_what_it_leaves_out(tmp_path: Path) -> None:
    # It is installed here; to its own processes it isn't there.
    hidden = "import sys; sys.modules['guard'] = None; from opentelemetry_guard.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", hidden, "demo"], env=environment(tmp_path), capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert "left out: a service with fastapi-guard, which is not installed (extra 'fastapi-guard')" in result.stdout
    assert {name for name, _, _ in _rows(result.stdout)} == {"shop", "accounts"}


@pytest.mark.slow
def test_what_is_kept_ends_with_its_children(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "demo", "--keep"], env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as printed:
        try:
            for line in printed:
                if "dashboard: " in line and not line.startswith("-"):
                    break
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[-1]), signal.SIGKILL)
            assert "has ended, and all the rest with it" in printed.read()
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
