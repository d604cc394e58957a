"""How large a body may be, and what a refusal teaches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.faults import end, python_environment, read_line, start

from opentelemetry_guard.delivery.body_limit import GROWTH_SECONDS, LEAST, BodyLimit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_refusal_of_unknown_cause_leaves_a_quarter() -> None:
    limit = BodyLimit(256_000)
    limit.refused(200_000, "payload too large")
    assert limit.bound == 50_000
    assert limit.refuses(200_000)
    assert not limit.refuses(199_999)


def test_what_was_taken_goes_on_being_sent() -> None:
    limit = BodyLimit(256_000)
    limit.taken(180_000)
    limit.refused(200_000, "")
    assert limit.bound == 180_000
    limit.refused(150_000, "")
    assert limit.bound == 37_500, "the backend takes less by now"


@pytest.mark.parametrize(
    ("answer", "bound"),
    [
        ("at most 100000 bytes", 100_000),
        ("limit: 100000 bytes, got 200000 bytes", 100_000),
        ("999999 bytes", 50_000),
        ("request 123456 was refused", 50_000),
        ("12 bytes", 50_000),
    ],
)
def test_a_limit_that_the_answer_names_counts(answer: str, bound: int) -> None:
    limit = BodyLimit(256_000)
    limit.refused(200_000, answer)
    assert limit.bound == bound


def test_refusals_of_small_bodies_leave_room_for_a_batch() -> None:
    limit = BodyLimit(256_000)
    limit.refused(300, "")
    assert limit.bound == LEAST
    assert not limit.refuses(LEAST - 1), "else one proxy's mistake would cost a day's rows"


def test_the_bound_doubles_every_day_up_to_the_setting() -> None:
    clock = Clock()
    limit = BodyLimit(256_000, clock=clock)
    limit.refused(200_000, "")
    bounds = []
    for _ in range(5):
        bounds.append(limit.bound)
        clock.now += GROWTH_SECONDS
    assert bounds == [50_000, 100_000, 200_000, 256_000, 256_000]
    assert not limit.refuses(10**9)


def test_another_process_and_the_next_start_know_what_one_has_learned(tmp_path: Path) -> None:
    path = tmp_path / "limit"
    first, second = BodyLimit(256_000, path), BodyLimit(256_000, path)
    first.refused(200_000, "")
    second.refresh()
    assert second.bound == BodyLimit(256_000, path).bound == 50_000
    assert BodyLimit(40_000, path).bound == 40_000
    assert path.stat().st_mode & 0o077 == 0
    assert os.listdir(tmp_path) == ["limit"]


@given(st.binary(max_size=50))
def test_a_damaged_file_teaches_nothing(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("damaged") / "limit"
    path.write_bytes(content)
    assert BodyLimit(256_000, path).bound == 256_000


@pytest.mark.parametrize("bound", ["-5", "0", "1e400", '"x"', "null", "[]", "true"])
def test_a_file_with_nonsense_makes_no_bound_that_nothing_fits_in(tmp_path: Path, bound: str) -> None:
    path = tmp_path / "limit"
    path.write_text(f'{{"bound": {bound}, "refused": 1, "at": 1e18}}')
    assert BodyLimit(256_000, path).bound >= 1024


def test_a_place_that_can_t_be_written_costs_nothing_but_memory_of_it(tmp_path: Path) -> None:
    limit = BodyLimit(256_000, tmp_path / "missing" / "limit")
    limit.refused(200_000, "")
    assert limit.bound == 50_000


def test_a_size_that_was_never_taken_is_tried_by_one_process_at_a_time(tmp_path: Path) -> None:
    one, other = (BodyLimit(256_000, tmp_path / "body-limit") for _ in range(2))
    assert one.may_try(200_000)
    assert not other.may_try(200_000)
    assert other.may_try(LEAST - 1), "what is small is not waited with"
    one.refused(200_000, "")
    one.tried()
    assert other.may_try(150_000)
    assert other.bound == 50_000
    other.taken(150_000)
    other.tried()
    assert one.may_try(200_000)
    assert other.may_try(150_000), "it has seen such a size taken"


TRYING = """
import sys
from pathlib import Path
from opentelemetry_guard.delivery.body_limit import BodyLimit
limit = BodyLimit(256_000, Path(sys.argv[1]))
print("true" if limit.may_try(200_000) else "false", flush=True)
sys.stdin.read()
"""


def test_the_trial_of_a_process_that_is_killed_ends_with_it(tmp_path: Path) -> None:
    other = BodyLimit(256_000, tmp_path / "body-limit")
    process = start(["-c", TRYING, str(tmp_path / "body-limit")], python_environment())
    try:
        assert read_line(process) is True
        assert not other.may_try(200_000)
        process.kill()
        process.wait()
        assert other.may_try(200_000), "what the dead one has left would wait, and all that the others have"
    finally:
        end(process)


def test_a_trial_that_takes_long_is_not_waited_for(tmp_path: Path) -> None:
    one, other = (BodyLimit(256_000, tmp_path / "body-limit") for _ in range(2))
    assert one.may_try(200_000)
    assert not other.may_try(200_000)
    [trial] = tmp_path.glob("*.trial")
    os.utime(trial, (0, 0))
    assert other.may_try(200_000)


def test_where_no_file_can_be_made_nobody_is_waited_for(tmp_path: Path) -> None:
    limit = BodyLimit(256_000, tmp_path / "missing" / "body-limit")
    assert limit.may_try(200_000)
    limit.tried()
