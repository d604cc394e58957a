"""One of a kind in each period, and a count of the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.instrumentation.http.reports import FOLDED, NoiseFilter, Report, is_noise


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def report(kind: str = "security_headers_applied", **fields: object) -> Report:
    return {"event_type": kind, "metadata": {"path": "/"}, **fields}


def folded(told: Report | None) -> object:
    assert told is not None
    metadata = told["metadata"]
    assert isinstance(metadata, dict)
    return metadata.get(FOLDED, 0)


def test_the_first_of_a_kind_passes_and_the_next_period_tells_how_many_were_folded() -> None:
    clock = Clock()
    noise = NoiseFilter(period=60, clock=clock)
    assert folded(noise.admit(report())) == 0
    assert [noise.admit(report()) for _ in range(3)] == [None, None, None]
    clock.now = 60
    assert folded(noise.admit(report())) == 3
    clock.now = 120
    assert folded(noise.admit(report())) == 0


def test_kinds_are_counted_apart() -> None:
    noise = NoiseFilter(clock=Clock())
    assert noise.admit(report("pattern_anomaly_timeout"))
    assert noise.admit(report("pattern_anomaly_slow_execution"))


def test_at_the_end_the_latest_of_each_kind_tells_the_count_of_the_others() -> None:
    noise = NoiseFilter(clock=Clock())
    assert noise.drain() == []
    for number in range(4):
        noise.admit(report(reason=str(number)))
    (last,) = noise.drain()
    assert (last["reason"], folded(last)) == ("3", 2)
    assert noise.drain() == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 100)), max_size=50))
def test_none_goes_uncounted(given_reports: list[tuple[str, float]]) -> None:
    clock = Clock()
    noise = NoiseFilter(period=60, clock=clock)
    told: list[Report] = []
    for kind, later in given_reports:
        clock.now += later
        passed = noise.admit({"event_type": f"pattern_anomaly_{kind}", "metadata": None})
        told += [passed] if passed else []
    told += noise.drain()
    counts = [1 + (one["metadata"] or {}).get(FOLDED, 0) for one in told]  # type: ignore[attr-defined]
    assert sum(counts) == len(given_reports)


def test_security_events_are_no_noise() -> None:
    assert is_noise("security_headers_applied")
    assert is_noise("pattern_anomaly_statistical_anomaly")
    assert is_noise("redis_error")
    assert not is_noise("penetration_attempt")
    assert not is_noise("pattern_detected")
