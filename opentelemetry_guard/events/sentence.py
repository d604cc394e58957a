"""What an event says to people, in one line: the body of its log record."""

from __future__ import annotations

from .codec import Row


def sentence(row: Row) -> str:
    """Return an event in words: ``GET /search from 203.0.113.7 blocked: SQL injection``.

    What can't be printed (a client may send newlines and a terminal's commands) is shown as U+FFFD.
    """
    address = row.get("ip_address")
    words = (row.get("method"), row.get("endpoint"), address and f"from {address}", row.get("action_taken"))
    subject = " ".join(str(word) for word in words if word)
    what = str(row.get("reason") or row["event_type"])
    text = f"{subject}: {what}" if subject else what
    return text if text.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in text)
