"""In which order several processes of one run are given the files of tests."""

from __future__ import annotations

from collections import Counter

import pytest

LONG = ("slow", "faults")
"""Marks of tests of which few take as long as hundreds of others."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take long, in each process alike: at the end, one alone would be busy with them.

    The others follow as pytest-xdist would have them, those with the most tests first; it has to be told to leave the
    order alone (``--no-loadscope-reorder``).
    """
    if not hasattr(config, "workerinput"):
        return
    sizes = Counter(item.path for item in items)
    long = {item.path for item in items if any(map(item.get_closest_marker, LONG))}
    items.sort(key=lambda item: (item.path not in long, -sizes[item.path], str(item.path)))
