"""What an operator must know reaches standard error once, unless the application prints it itself."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.application import BIN, ROOT, ZERO_CODE
from support.guard_server import guard_server

from opentelemetry_guard.settings import once
from opentelemetry_guard.settings.once import MAX_PRINTED, log_once

APPLICATION = """
import logging, sys
from opentelemetry._logs import get_logger_provider
from opentelemetry_guard import emit_event
from opentelemetry_guard.process import end as process_end

if sys.argv[1] == "configured":
    logging.basicConfig(format="application: %(message)s")
for _ in range(8):
    emit_event(event_type="ip_blocked")
    process_end.flush(10.0)
"""


@pytest.mark.parametrize(
    ("status", "variable", "text"),
    [
        (401, {}, "the Guard backend can't be used for events"),
        (500, {}, "the Guard backend can't be used now, for "),
        (200, {"OTEL_EXPORTER_GUARD_TIMEOUT": "soon"}, "OTEL_EXPORTER_GUARD_TIMEOUT"),
    ],
    ids=["refused-key", "first-failure", "wrong-variable"],
)
@pytest.mark.parametrize("configured", [False, True], ids=["", "application-logs"])
def test_an_operator_reads_what_is_wrong_once(
    status: int, variable: dict[str, str], text: str, configured: bool, tmp_path: Path
) -> None:
    pytest.importorskip("opentelemetry.instrumentation.logging")
    with guard_server() as server:
        server.answer(status, times=None)
        settings = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
            **server.environment,
            **ZERO_CODE,
            **variable,
            "XDG_STATE_HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
        }
        command = [str(BIN / "opentelemetry-instrument"), sys.executable, "-c", APPLICATION]
        done = subprocess.run(
            [*command, "configured" if configured else ""],
            env=settings,
            timeout=60,
            check=True,
            capture_output=True,
            text=True,
        )
    lines = [line for line in done.stderr.splitlines() if text in line]
    assert len(lines) == 1, done.stderr
    # A wrong variable is noticed before the application has configured anything.
    assert lines[0].startswith("application: ") == (configured and not (variable and status == 200))


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def printed(monkeypatch: pytest.MonkeyPatch, *handlers: logging.Handler) -> list[str]:
    """Return what the last resort prints from now on, in a process whose root logger has `handlers`."""
    kept = _Kept()
    monkeypatch.setattr(logging, "lastResort", kept)
    monkeypatch.setattr(logging.getLogger(), "handlers", list(handlers))
    monkeypatch.setattr(logging.getLogger("opentelemetry_guard"), "handlers", [once._LastResort()])
    return kept.texts


def test_a_handler_counts_that_would_print_it(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("opentelemetry_guard.delivery.route")
    high = logging.StreamHandler()
    high.setLevel(logging.CRITICAL)
    said = printed(monkeypatch, logging.NullHandler(), high)
    logger.error("refused")
    assert said == ["refused"]
    monkeypatch.setattr(logging.getLogger(), "handlers", [_Kept()])
    logger.error("open")
    assert said == ["refused"]


def test_each_text_is_printed_once_and_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(monkeypatch)
    logger = logging.getLogger("opentelemetry_guard.delivery")
    for number in [*range(MAX_PRINTED + 5), 0]:
        logger.warning("batch %d", number)
    assert said == [f"batch {number}" for number in range(MAX_PRINTED)]


def test_an_application_that_wants_no_last_resort_gets_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed(monkeypatch)
    monkeypatch.setattr(logging, "lastResort", None)
    log_once(logging.getLogger("opentelemetry_guard"), logging.ERROR, "nobody wants to read this")
    assert capsys.readouterr().err == ""
