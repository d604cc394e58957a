"""Helpers under the name that the documents of the Guard agent give them."""

from datetime import datetime, timezone


def get_current_timestamp() -> datetime:
    """Return the current time as an aware UTC datetime, the form `SecurityEvent.timestamp` wants."""
    return datetime.now(timezone.utc)
