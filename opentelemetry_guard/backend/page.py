"""The page that lists the latest events, in one string without anything from outside."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import datetime, timezone

from ..models import SecurityEvent
from .store import StoredRow

_COLUMNS = ("Received", "Type", "Address", "Request", "Action", "Reason", "Trace")

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Guard backend</title>
<style>
:root { color-scheme: light dark; font-family: system-ui, sans-serif; }
body { margin: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid #8884; }
</style>
</head>
<body>
<h1>Latest events</h1>
"""


def latest_events_page(rows: Sequence[StoredRow]) -> str:
    """Return the page for `rows` (newest last); it shows the newest first."""
    if not rows:
        return _HEAD + "<p>Nothing has arrived yet.</p>\n</body>\n</html>\n"
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    lines = "\n".join(_line(row) for row in reversed(rows))
    table = f'<div class="wide">\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>\n</div>'
    return f"{_HEAD}{table}\n</body>\n</html>\n"


def _line(row: StoredRow) -> str:
    event = SecurityEvent.model_validate_json(row.row)
    received = datetime.fromtimestamp(row.received_at, timezone.utc)
    cells = (
        received.isoformat(sep=" ", timespec="seconds"),
        event.event_type,
        event.ip_address,
        f"{event.method or ''} {event.endpoint or ''}".strip(),
        event.action_taken,
        event.reason,
        event.metadata.get("trace_id", ""),
    )
    return "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"
