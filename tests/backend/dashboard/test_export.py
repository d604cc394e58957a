"""Exports hold every event that matches, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.backend import running_backend
from support.sending import batch, event, post

from opentelemetry_guard.backend.dashboard.export import COLUMNS, csv_lines, json_lines, safe_cell
from opentelemetry_guard.backend.storage.search import FoundEvent
from opentelemetry_guard.models import SecurityEvent

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def found(*events: SecurityEvent) -> list[FoundEvent]:
    return [FoundEvent(number, "b", 1.0, 1.0, event.model_dump_json()) for number, event in enumerate(events)]


@given(st.lists(st.tuples(TEXT, TEXT), max_size=5))
def test_json_is_an_array_of_the_events_as_they_were_sent(made: list[tuple[str, str]]) -> None:
    events = [SecurityEvent(event_type=kind, reason=reason) for kind, reason in made]
    exported = json.loads("".join(json_lines(found(*events))))
    assert [SecurityEvent.model_validate(one) for one in exported] == events


@given(st.lists(TEXT, max_size=5))
def test_csv_has_a_line_for_each_event_and_gives_the_text_back(reasons: list[str]) -> None:
    events = [SecurityEvent(event_type="e", reason=reason, status_code=403) for reason in reasons]
    lines = list(csv.DictReader(io.StringIO("".join(csv_lines(found(*events))), newline="")))
    assert [line["reason"].removeprefix("'") for line in lines] == [reason.removeprefix("'") for reason in reasons]
    assert all(line["status_code"] == "403" for line in lines)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\uff1d"])
def test_a_cell_that_a_spreadsheet_would_run_begins_with_an_apostrophe(start: str) -> None:
    assert safe_cell(f"{start}cmd|' /C calc'!A0") == f"'{start}cmd|' /C calc'!A0"


def test_a_negative_number_stays_one() -> None:
    assert (safe_cell(-1.5), safe_cell(None), safe_cell("plain")) == ("-1.5", "", "plain")


def test_the_trace_has_columns_of_its_own() -> None:
    event = SecurityEvent(event_type="e", metadata={"trace_id": "t" * 3, "span_id": "s"})
    (line,) = csv.DictReader(io.StringIO("".join(csv_lines(found(event)))))
    assert tuple(line) == COLUMNS
    assert (line["trace_id"], line["span_id"]) == ("ttt", "s")


def test_nothing_that_a_sender_chooses_becomes_a_formula_in_the_downloaded_file() -> None:
    formula = '=HYPERLINK("http://attacker.example","x"),\n@SUM(1)\t'
    texts = [name for name, field in SecurityEvent.model_fields.items() if field.annotation in (str, str | None)]
    chosen = dict.fromkeys({*texts} - {"idempotency_key"}, formula)
    with running_backend() as backend:
        body = batch(events=[event(**chosen, metadata={"trace_id": formula, "span_id": "+1", formula: formula})])
        body["batch_id"] = formula
        assert post(backend, "/api/v1/events", body).status_code == 200
        answer = backend.http.get(f"{backend.url}/events/export.csv", timeout=10)
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    (line,) = csv.DictReader(io.StringIO(answer.content.decode(), newline=""))
    assert sum(cell.startswith("'=HYPERLINK") for cell in line.values()) >= len(chosen)
    assert not [name for name, cell in line.items() if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]
