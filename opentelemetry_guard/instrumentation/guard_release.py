"""Which release of fastapi-guard there is, and where it keeps its parts.

guard-core was a package of its own from fastapi-guard 5.0 on; before that, its
modules were fastapi-guard's.
"""

from __future__ import annotations

import importlib.util
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

FULL_SUPPORT = (5, 2)
"""The first release of fastapi-guard in which every place that we know is there."""


def release() -> str:
    """Return the installed release of fastapi-guard, in words where its metadata are missing."""
    try:
        return version("fastapi-guard")
    except PackageNotFoundError:
        return "of an unknown release"


def is_fully_supported(text: str) -> bool:
    """Whether a release is captured fully; one that can't be read counts as new."""
    parts = text.split(".")[:2]
    return not all(part.isdigit() for part in parts) or tuple(map(int, parts)) >= FULL_SUPPORT


def core(name: str) -> Any:
    """Return one of guard-core's modules, for example ``handlers.ipban_handler``.

    Raises:
        ModuleNotFoundError: this release has no such module.
    """
    package = "guard_core" if importlib.util.find_spec("guard_core") is not None else "guard"
    return import_module(f"{package}.{name}")
