"""What is usual: a mean that forgets, the deviation from it, and how far from it something is."""

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


def share_score(share: float, number: float, usual: float, others: float) -> float:
    """Return how many standard deviations a share of `number` things lies above the usual one of `others`.

    The usual share is taken as if one thing more had failed and one more had not (Laplace), so that none at all
    among a few others is no proof that there can't be any.
    """
    expected = (usual * others + 1) / (others + 2)
    return (share - expected) / math.sqrt(expected * (1 - expected) / number)
