"""`opentelemetry-guard demo`: it shows the whole road, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import run


@pytest.mark.slow
def test_the_demonstration_shows_every_kind_of_event_and_leaves_nothing(tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    # a service's own settings have no part in it
    settings = {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_GUARD_QUEUE_URL": "memory://"}
    result = run(home, "demo", TMPDIR=str(temporary), **settings)
    assert result.returncode == 0, result.stderr
    for kind in ("authentication_failed", "penetration_attempt", "rate_limited"):
        assert kind in result.stdout
    assert list(temporary.iterdir()) == []
    assert list(home.rglob("*.db")) == []
