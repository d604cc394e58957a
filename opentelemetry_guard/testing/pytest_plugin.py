"""The pytest plugin: the fixture ``security_events``. It loads nothing of the package before a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .capturing import Captured


@pytest.fixture
def security_events() -> Iterator[Captured]:
    """What a test emits, from its beginning to its end: a `Captured`."""
    from .capturing import capture_events

    with capture_events() as captured:
        yield captured
