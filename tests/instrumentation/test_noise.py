"""One of a kind in each period, and a count of the others."""

from __future__ import annotations

from opentelemetry_guard.instrumentation.noise import NoiseFilter, is_noise


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_of_a_kind_passes_and_the_next_period_tells_how_many_were_folded() -> None:
    clock = Clock()
    noise = NoiseFilter(period=60, clock=clock)
    assert noise.admit("security_headers_applied") == 0
    assert [noise.admit("security_headers_applied") for _ in range(3)] == [None, None, None]
    clock.now = 60
    assert noise.admit("security_headers_applied") == 3
    clock.now = 120
    assert noise.admit("security_headers_applied") == 0


def test_kinds_are_counted_apart() -> None:
    noise = NoiseFilter(clock=Clock())
    assert noise.admit("pattern_anomaly_timeout") == 0
    assert noise.admit("pattern_anomaly_slow_execution") == 0


def test_security_events_are_no_noise() -> None:
    assert is_noise("security_headers_applied")
    assert is_noise("pattern_anomaly_statistical_anomaly")
    assert not is_noise("penetration_attempt")
    assert not is_noise("pattern_detected")
