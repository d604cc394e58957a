"""Whether the packages that are needed are there, in releases that fit, with our entry points."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, entry_points, requires, version

from packaging.requirements import Requirement
from packaging.version import Version

from ...version import __version__
from .finding import Finding, ok, problem, warning

_DISTRIBUTION = "opentelemetry-guard"
_ENTRY_POINTS = (
    "opentelemetry_traces_exporter",
    "opentelemetry_logs_exporter",
    "opentelemetry_metrics_exporter",
    "opentelemetry_instrumentor",
)
_SUPPORTED_GUARD = Version("5.2")


def check_packages() -> Iterator[Finding]:
    """Yield what there is to say about installed packages and entry points."""
    yield ok("python", f"{platform.python_implementation()} {platform.python_version()}")
    yield ok(_DISTRIBUTION, __version__)
    for requirement in _requirements():
        yield _check_requirement(requirement)
    yield _check_distro()
    yield from _check_fastapi()
    for group in _ENTRY_POINTS:
        yield _check_entry_point(group)


def _requirements() -> list[Requirement]:
    try:
        texts = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        return []
    parsed = [Requirement(text) for text in texts]
    return [requirement for requirement in parsed if requirement.marker is None or requirement.marker.evaluate()]


def _check_requirement(requirement: Requirement) -> Finding:
    found = _installed(requirement.name)
    remedy = f"pip install '{requirement.name}{requirement.specifier}'"
    if found is None:
        return problem(requirement.name, "is not installed", remedy)
    if not requirement.specifier.contains(found, prereleases=True):
        return problem(requirement.name, f"{found} is installed, needed is {requirement.specifier}", remedy)
    return ok(requirement.name, found)


def _check_distro() -> Finding:
    found = _installed("opentelemetry-distro")
    if found is None:
        return problem(
            "opentelemetry-distro",
            "is not installed: opentelemetry-instrument sets no providers up without a distro",
            "pip install 'opentelemetry-guard[auto]'",
        )
    return ok("opentelemetry-distro", found)


def _check_fastapi() -> Iterator[Finding]:
    fastapi, guard = _installed("fastapi"), _installed("fastapi-guard")
    if fastapi is None:
        yield warning("fastapi", "is not installed here", "run this in the environment of the service")
    else:
        yield ok("fastapi", fastapi)
    if guard is not None and Version(guard) < _SUPPORTED_GUARD:
        yield warning("fastapi-guard", f"{guard} is captured in part", "pip install 'fastapi-guard>=5.2'")
    elif guard is not None:
        yield ok("fastapi-guard", guard)


def _check_entry_point(group: str) -> Finding:
    found = [point for point in entry_points(group=group) if point.name == "guard"]
    remedy = "pip install --force-reinstall opentelemetry-guard"
    if not found:
        return problem(group, "has no entry point named guard", remedy)
    try:
        found[0].load()
    except Exception as error:  # noqa: BLE001  importing may raise anything, which is what is asked for
        return problem(group, f"its entry point guard can't be loaded: {error!r}", remedy)
    return ok(group, found[0].value)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
