"""The engine of regular expressions that a machine may lack."""

from __future__ import annotations

import pytest


def need_re2() -> None:
    """Skip a test where google-re2 is not installed."""
    pytest.importorskip("re2", reason="google-re2 is not installed; the extra `patterns` has it")
