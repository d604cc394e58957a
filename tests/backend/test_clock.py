"""Times in a zone are those of that zone, and what is written in it is read as it was meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.backend.clock import Clock, zones

SUMMER = 1_784_000_000.125  # 2026-07-14T03:33:20.125Z
WINTER = 1_768_000_000.0  # 2026-01-09T23:06:40Z


def test_times_are_those_of_the_zone() -> None:
    utc, berlin = Clock(), Clock("Europe/Berlin")
    assert (utc.day(WINTER), utc.time(SUMMER)) == ("2026-01-09", "03:33:20.125")
    assert (berlin.day(WINTER), berlin.time(WINTER)) == ("2026-01-10", "00:06:40.000")
    assert berlin.text(SUMMER) == "2026-07-14 05:33:20"
    assert (berlin.short(SUMMER, True), berlin.tick(SUMMER, False)) == ("14 Jul 05:33", "05:33")


def test_a_time_with_an_offset_is_in_no_zone() -> None:
    berlin = Clock("Europe/Berlin")
    assert berlin.read("2026-01-10T00:06:40") == berlin.read("2026-01-09T23:06:40Z") == WINTER


@given(st.integers(0, 4_000_000_000), st.sampled_from(["UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"]))
def test_what_a_field_shows_is_read_back(moment: int, zone: str) -> None:
    clock = Clock(zone)
    # An hour that a zone has twice is read as its first.
    assert clock.read(clock.field(moment)) in (moment, moment - 3600, moment - 1800)


@pytest.mark.parametrize("moment", [-62_135_596_800.0, 253_402_300_799.0, 253_402_300_800.0])
def test_the_first_and_the_last_moment_can_be_written_in_every_zone(moment: float) -> None:
    for zone in ("UTC", "Pacific/Apia", "America/Los_Angeles"):
        assert Clock(zone).text(moment)


@pytest.mark.parametrize(
    ("text", "zone"), [("9999-12-31T23:59", "America/New_York"), ("0001-01-01T00:00", "Asia/Tokyo")]
)
def test_a_moment_that_utc_has_no_year_for_is_none(text: str, zone: str) -> None:
    with pytest.raises(OverflowError):
        Clock(zone).read(text)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe", "é"])
def test_what_is_no_zone_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="not a time zone"):
        Clock(name)


def test_the_choice_begins_with_utc() -> None:
    assert zones()[0] == "UTC"
    assert len(set(zones())) == len(zones())
