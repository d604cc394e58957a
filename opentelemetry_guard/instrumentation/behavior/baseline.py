"""What is usual: a running mean and deviation that one outlier hardly moves, and the distance of a value from them."""

from __future__ import annotations

import math
from typing import NamedTuple


class Usual(NamedTuple):
    """A usual number: its mean, and the mean absolute deviation from it."""

    mean: float = 0.0
    deviation: float = 0.0


def spread(usual: Usual) -> float:
    """Return the standard deviation that goes with it: never less than what pure chance gives counts of this size."""
    # 1.25 is the ratio of a normal distribution's standard deviation to its mean absolute one.
    return max(1.25 * usual.deviation, math.sqrt(max(usual.mean, 0.0)), 1.0)


def score(value: float, usual: Usual) -> float:
    """Return how many standard deviations `value` lies above the mean."""
    return (value - usual.mean) / spread(usual)


def learned(usual: Usual, value: float, gain: float) -> Usual:
    """Return what is usual after one more value, which gets the weight `gain`, from above 0 to 1 for the first.

    A value far above counts as three deviations above: a flood takes many windows to become usual. The first value
    leaves half of itself as the deviation, as TCP begins to estimate its round trip (RFC 6298).
    """
    if gain >= 1:
        return Usual(value, value / 2)
    error = min(value, usual.mean + 3 * spread(usual)) - usual.mean
    return Usual(usual.mean + gain * error, usual.deviation + gain * (abs(error) - usual.deviation))
