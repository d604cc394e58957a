"""How much the agent's processors hold, and when they hand it on: as the environment says, else as `AgentConfig` does.

The SDK reads its variables itself, but a wrong one would raise into the
application that starts the agent.
"""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass
from typing import Literal

from opentelemetry.sdk.environment_variables import OTEL_METRIC_EXPORT_INTERVAL

from ..settings.agent import AgentConfig
from ..settings.once import log_once

_logger = logging.getLogger(__name__)

QUEUE_SIZE = 2048
"""The SDK's default of how many records a batch processor holds."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Arguments of a batch processor.

    Attributes:
        delay: milliseconds after which a batch goes out that is not full.
        batch_size: records of one batch.
        capacity: records that are held, which are no fewer than one batch.
    """

    delay: float
    batch_size: int
    capacity: int


def bounds_of(processor: Literal["BLRP", "BSP"], config: AgentConfig) -> Bounds:
    """Return the bounds of a log or span processor; ``OTEL_<processor>_*`` wins over `config`."""
    delay = _positive(f"OTEL_{processor}_SCHEDULE_DELAY") or config.flush_interval * 1000
    capacity = int(_positive(f"OTEL_{processor}_MAX_QUEUE_SIZE") or max(QUEUE_SIZE, 2 * config.buffer_size))
    batch_size = int(_positive(f"OTEL_{processor}_MAX_EXPORT_BATCH_SIZE") or config.buffer_size)
    return Bounds(delay, min(batch_size, capacity), capacity)


def export_interval(config: AgentConfig) -> float:
    """Return the milliseconds between two exports of metrics; the environment wins over `config`."""
    return _positive(OTEL_METRIC_EXPORT_INTERVAL) or config.flush_interval * 1000


def _positive(variable: str) -> float | None:
    """Return the number that a variable holds, from 1 on; None where it holds none, which is said where it is wrong."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if 1 <= number < math.inf:
        return number
    log_once(
        _logger, logging.ERROR, f"{variable} is {text!r}, allowed is a number from 1; the agent goes by AgentConfig"
    )
    return None
