"""What is known of the contract's types of events."""

from __future__ import annotations

import pytest

from opentelemetry_guard.events.known import is_blocking


@pytest.mark.parametrize(
    ("action", "blocks"),
    [
        ("request_blocked", True),
        ("blocked", True),
        ("banned", True),
        ("access_denied", True),
        ("rate_limited", True),
        ("logged", False),
        ("logged_only", False),
        ("unbanned", False),
        ("allowed", False),
        ("ban_not_applied", False),
        ("", False),
    ],
)
def test_what_counts_as_blocked(action: str, blocks: bool) -> None:
    assert is_blocking(action) is blocks
