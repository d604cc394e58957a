"""What ``--help`` ends with."""

from __future__ import annotations


def examples(*lines: str) -> str:
    """Return an epilog with a line for each example, never wrapped, so that each can be copied."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
