"""Editors and type checkers know what an event and a metric may have, and a slip is told."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from support.backend import ROOT

from opentelemetry_guard import emit_event
from opentelemetry_guard.events import spelling
from opentelemetry_guard.events.known import KNOWN
from opentelemetry_guard.events.signatures import EmitEvent, RecordMetric
from opentelemetry_guard.models import EventType, SecurityEvent, SecurityMetric
from opentelemetry_guard.testing import capture_events

RIGHT = """
from opentelemetry_guard import emit_event, record_metric, SecurityEvent

emit_event(event_type="ip_banned", ip_address="192.0.2.7", status_code=403, metadata={"tries": 3}, tenant="north")
emit_event(event_type="a_type_of_ones_own")
emit_event({"event_type": "ip_banned"})
emit_event(SecurityEvent(event_type="ip_banned"), reason="again")
record_metric(metric_type="threat_level", value=1, endpoint="/", tags={"a": "b"})
"""

WRONG = {
    'emit_event(event_type="ip_banned", status_code="403")': 'has incompatible type "str"',
    'emit_event(event_type="ip_banned", metadata=[1])': 'has incompatible type "list[int]"',
    'record_metric(metric_type="nonsense", value=1)': "nonsense",
    'record_metric(metric_type="threat_level", value="high")': 'has incompatible type "str"',
}


def test_the_signatures_name_every_field() -> None:
    def named(signature: type[EmitEvent] | type[RecordMetric]) -> set[str]:
        code = signature.__call__.__code__
        return set(code.co_varnames[2 : 2 + code.co_kwonlyargcount])

    assert named(EmitEvent) == set(SecurityEvent.model_fields)
    assert named(RecordMetric) == set(SecurityMetric.model_fields) - {"timestamp"}


def test_the_type_of_events_names_what_the_contract_names() -> None:
    assert set(get_args(EventType)) == set(KNOWN)


@pytest.mark.slow
def test_a_strict_type_checker_takes_what_is_right_and_refuses_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text("from opentelemetry_guard import emit_event, record_metric\n" + "\n".join(WRONG))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}/cache"]
    checked = subprocess.run(
        [*command, str(tmp_path / "right.py"), str(tmp_path / "wrong.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    errors = [line for line in checked.stdout.splitlines() if ": error:" in line]
    assert [line for line in errors if "right.py" in line] == []
    for number, told in enumerate(WRONG.values(), start=2):
        assert any(f"wrong.py:{number}:" in line and told in line for line in errors), errors


@pytest.mark.parametrize(
    ("slip", "meant"), [("ip_addres", "ip_address"), ("end_point", "endpoint"), ("status_cod", "status_code")]
)
def test_a_misspelled_field_is_sent_and_told_once_with_the_right_name(
    slip: str, meant: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spelling, "_seen", set())  # another test may have made the same slip
    with caplog.at_level(logging.WARNING), capture_events() as captured:
        for _ in range(3):
            emit_event(event_type="ip_banned", **{slip: "text"})  # type: ignore[arg-type]
    told = [record.getMessage() for record in caplog.records if slip in record.getMessage()]
    assert told == [f"an event has the field {slip!r}, which is sent as a field of your own: did you mean {meant!r}?"]
    assert captured.events[0].model_extra == {slip: "text"}


def test_a_field_of_ones_own_is_no_slip(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), capture_events():
        emit_event(event_type="ip_banned", tenant="north", user="ada", request_id="7")
    assert caplog.records == []
