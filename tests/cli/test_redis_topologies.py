"""The command line on a Redis with sentinels and on a cluster, before and after a fail-over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.backend import RunningBackend, running_backend
from support.commands import run, settings_of
from support.left_queue import PROJECT, leave
from support.redis import eventually, redis_with_replicas, stop_master

from opentelemetry_guard.queue.redis.entries import keys_of
from opentelemetry_guard.settings.delivery import GuardConfig

pytestmark = pytest.mark.slow

PASSWORD = "hunter2"


@pytest.fixture(scope="module")
def backend() -> Iterator[RunningBackend]:
    with running_backend(project=PROJECT) as running:
        yield running


@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
def test_queue_and_doctor_go_where_the_master_is(topology: str, tmp_path: Path, backend: RunningBackend) -> None:
    with redis_with_replicas(topology, PASSWORD) as redis:
        left = leave(tmp_path / "home", redis.url, settings_of(backend))
        assert [batch["batch_id"] for batch in left.json("list")] == left.waiting

        def elsewhere() -> list[str]:
            """What a machine sees that has none of it."""
            shown = run(tmp_path / "another", "queue", "list", "--json", **left.variables)
            assert PASSWORD not in shown.stdout + shown.stderr
            if shown.returncode:
                assert "can't be used" in shown.stderr  # the fail-over is under way
                return []
            return [batch["batch_id"] for batch in json.loads(shown.stdout) if batch["elsewhere"]]

        def is_well() -> bool:
            told = run(tmp_path / "another", "doctor", "--no-send", "--json", **left.variables)
            assert PASSWORD not in told.stdout + told.stderr
            return told.returncode == 0

        (tmp_path / "another").mkdir()
        assert sorted(elsewhere()) == sorted(left.waiting)
        assert is_well()
        stop_master(redis, keys_of(GuardConfig.resolve(left.variables).destination)[0])
        eventually(lambda: sorted(elsewhere()) == sorted(left.waiting), every=0.5)
        eventually(is_well, every=0.5)
        assert left.command("dead-letters", "replay", left.dead)[0] == 0
        assert left.json("dead-letters", "list") == []
