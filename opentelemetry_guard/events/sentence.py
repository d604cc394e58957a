"""What an event says to people, in one line: the body of its log record."""

from __future__ import annotations

from .codec import Row


def sentence(row: Row) -> str:
    """Return an event in words: ``GET /search from 203.0.113.7 blocked: SQL injection``.

    What can't be printed (a client may send newlines and a terminal's commands) is shown as U+FFFD.
    """
    get = row.get
    method, endpoint, address, action = get("method"), get("endpoint"), get("ip_address"), get("action_taken")
    what = get("reason") or row["event_type"]
    if method and endpoint and address and action:  # as most do
        text = f"{method} {endpoint} from {address} {action}: {what}"
    else:
        subject = " ".join(str(word) for word in (method, endpoint, address and f"from {address}", action) if word)
        text = f"{subject}: {what}" if subject else str(what)
    return text if text.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in text)
