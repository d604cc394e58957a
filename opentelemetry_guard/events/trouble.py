"""What an agent's status says of troubles that somebody may want to be told of: parts of its sentences."""

from __future__ import annotations

DEAD_LETTERS = "they are dead letters"
"""Rows were refused for good."""

BREAKER_OPEN = "circuit breaker open"
"""A route rests, since its requests fail."""
