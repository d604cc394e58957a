"""Exports hold every event that matches, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from support.backend import running_backend
from support.sending import batch, event, post

from opentelemetry_guard.backend.dashboard.export import COLUMNS, EXPORTS, csv_lines, json_lines, safe_cell
from opentelemetry_guard.backend.storage.search import FoundEvent
from opentelemetry_guard.models import SecurityEvent
from opentelemetry_guard.siem.formats import FORMATS

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
        answer = backend.http.get(f"{backend.url}/events/export?format=csv", timeout=60)
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    (line,) = csv.DictReader(io.StringIO(answer.content.decode(), newline=""))
    assert sum(cell.startswith("'=HYPERLINK") for cell in line.values()) >= len(chosen)
    assert not [name for name, cell in line.items() if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


@pytest.mark.parametrize("name", ["ndjson", "ocsf", "ecs", "cef"])
def test_every_format_has_a_line_for_each_event_that_matches(name: str) -> None:
    chosen = [event(event_type="penetration_attempt", ip_address="203.0.113.7", reason=f"a\n|={n}") for n in range(3)]
    with running_backend() as backend:
        body = batch(events=[*chosen, event(event_type="rate_limited", ip_address="203.0.113.8")])
        assert post(backend, "/api/v1/events", body).status_code == 200
        parameters = {"format": name, "address": "203.0.113.7"}
        answer = backend.http.get(f"{backend.url}/events/export", params=parameters, timeout=60)
    assert f".{FORMATS[name].suffix}" in answer.headers["Content-Disposition"]
    rows = [SecurityEvent.model_validate(one).model_dump(mode="json") for one in reversed(chosen)]
    lines = answer.content.splitlines()
    if name == "ndjson":
        assert [json.loads(line) for line in lines] == rows
    else:
        assert sorted(lines) == sorted(FORMATS[name].line(row) for row in rows)


def test_a_format_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with running_backend() as backend:
        answer = backend.http.get(f"{backend.url}/events/export", params={"format": "xml"}, timeout=60)
    assert answer.status_code == 404
    assert "csv, json, ndjson, ocsf, ecs, cef" in answer.text


def test_an_export_is_filtered_by_what_the_address_of_a_list_says_and_a_slip_is_refused() -> None:
    with running_backend() as backend:
        body = batch(events=[event(timestamp=f"202{year}-01-01T00:00:00Z", reason=str(year)) for year in (4, 5)])
        assert post(backend, "/api/v1/events", body).status_code == 200

        def exported(**parameters: str) -> requests.Response:
            return backend.http.get(f"{backend.url}/events/export", params=parameters, timeout=60)

        between = {"within": "between", "since": "2024-06-01T00:00", "until": "", "address": ""}
        assert [one["reason"] for one in exported(format="json", **between).json()] == ["5"]
        assert len(exported(format="json", within="any").json()) == 2
        refused = exported(format="json", client="192.0.2.1")
    assert refused.status_code == 422
    assert "client" in refused.text


def test_an_export_is_written_while_it_is_read() -> None:
    taken: list[int] = []

    def endless() -> Iterator[FoundEvent]:
        for number in itertools.count():
            taken.append(number)
            yield FoundEvent(number, "b", 1.0, 1.0, SecurityEvent(event_type="e").model_dump_json())

    pieces = EXPORTS["ocsf"].pieces(endless())
    assert len(next(iter(pieces))) > 0
    assert len(taken) < 1000
