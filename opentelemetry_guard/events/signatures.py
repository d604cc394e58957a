"""How `emit_event` and `record_metric` are called, for editors and type checkers.

At run time both take the fields as they come: naming each of them would cost
every event a microsecond, and what was not given could not be told from its
default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol
from uuid import UUID

from ..models import EventType, MetricType, SecurityEvent, SecurityMetric


class EmitEvent(Protocol):
    """Emits one security event: an object or a mapping, or fields, or both."""

    def __call__(
        self,
        event: SecurityEvent | Mapping[str, object] | None = None,
        /,
        *,
        event_type: EventType | str = ...,
        ip_address: str = ...,
        action_taken: str = ...,
        reason: str = ...,
        endpoint: str | None = ...,
        method: str | None = ...,
        status_code: int | None = ...,
        user_agent: str | None = ...,
        country: str | None = ...,
        response_time: float | None = ...,
        rule_type: str | None = ...,
        pattern_matched: str | None = ...,
        decorator_type: str | None = ...,
        handler_name: str | None = ...,
        metadata: Mapping[str, object] | None = ...,
        timestamp: datetime | str | float | None = ...,
        idempotency_key: UUID | str | None = ...,
        **extra: object,
    ) -> None:
        """Emit it; fields win over those of `event`."""


class RecordMetric(Protocol):
    """Records one security metric: an object or a mapping, or fields, or both."""

    def __call__(
        self,
        metric: SecurityMetric | Mapping[str, object] | None = None,
        /,
        *,
        metric_type: MetricType = ...,
        value: float = ...,
        endpoint: str | None = ...,
        tags: Mapping[str, object] | None = ...,
        **extra: object,
    ) -> None:
        """Record it; fields win over those of `metric`."""


def emits(function: Callable[..., None]) -> EmitEvent:
    """Have type checkers take a function for an `EmitEvent`, as which it is called."""
    return function


def records(function: Callable[..., None]) -> RecordMetric:
    """Have type checkers take a function for a `RecordMetric`, as which it is called."""
    return function
