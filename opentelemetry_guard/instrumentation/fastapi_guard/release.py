"""Which release of fastapi-guard there is, and where it keeps its parts.

guard-core was a package of its own from fastapi-guard 5.0 on; before that, its
modules were fastapi-guard's.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_Release = tuple[int, ...]

FULL_SUPPORT = (5, 2)
"""The first release of fastapi-guard in which every place that we know is there."""
CORE_FULL_SUPPORT = (3, 17)
"""The first release of guard-core whose dynamic rules are known to be enforced in full, with our help."""
CORE_RESTORES = (4, 4)
"""The first release of guard-core that goes back to the configuration of before the first rule by itself."""

_MIDDLEWARES = (("guard.middleware", "SecurityMiddleware"), ("guard.asgi", "PureASGISecurityMiddleware"))


def release() -> str:
    """Return the installed release of fastapi-guard, in words where its metadata are missing."""
    try:
        return version("fastapi-guard")
    except PackageNotFoundError:
        return "of an unknown release"


def core_release() -> str | None:
    """Return the installed release of guard-core, None where fastapi-guard has its modules itself."""
    try:
        return version("guard-core")
    except PackageNotFoundError:
        return None


def is_fully_supported(text: str, core_text: str | None) -> bool:
    """Whether a release of fastapi-guard is captured fully with a release of guard-core."""
    return _is_from(text, FULL_SUPPORT) and (core_text is None or _is_from(core_text, CORE_FULL_SUPPORT))


def restores_configuration() -> bool:
    """Whether the installed guard-core takes back what earlier rules have configured when it applies others."""
    text = core_release()
    return text is not None and _is_from(text, CORE_RESTORES)


def middlewares() -> tuple[type, ...]:
    """Return the classes of fastapi-guard's middlewares, as far as they are imported."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in _MIDDLEWARES)
    return tuple(kind for kind in found if isinstance(kind, type))


def _is_from(text: str, first: _Release) -> bool:
    """Whether a release is `first` or later; one that can't be read counts as new."""
    parts = text.split(".")[:2]
    return not all(part.isdigit() for part in parts) or tuple(map(int, parts)) >= first


def core(name: str) -> Any:
    """Return one of guard-core's modules, for example ``handlers.ipban_handler``.

    Raises:
        ModuleNotFoundError: this release has no such module.
    """
    package = "guard_core" if importlib.util.find_spec("guard_core") is not None else "guard"
    return import_module(f"{package}.{name}")
