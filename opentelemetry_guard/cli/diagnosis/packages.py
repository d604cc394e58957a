"""Whether the packages that are needed are there, in releases that fit, with our entry points."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, entry_points, requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ...version import __version__
from .finding import Finding, ok, problem, warning

_DISTRIBUTION = "opentelemetry-guard"
_DISTRO = "opentelemetry-distro"
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
    direct = _requirements(_DISTRIBUTION)
    for requirement in direct:
        yield _check_requirement(requirement)
    yield _check_distro()
    yield from _check_indirect([*(requirement.name for requirement in direct), _DISTRO])
    yield from _check_fastapi()
    for group in _ENTRY_POINTS:
        yield _check_entry_point(group)


def _requirements(distribution: str) -> list[Requirement]:
    """Return what a distribution needs on this machine, without its extras; nothing where it is not installed."""
    try:
        texts = requires(distribution) or []
    except PackageNotFoundError:
        return []
    parsed = [Requirement(text) for text in texts]
    return [found for found in parsed if found.marker is None or found.marker.evaluate({"extra": ""})]


def _check_requirement(requirement: Requirement, user: str = "") -> Finding:
    found = _installed(requirement.name)
    remedy = f"pip install '{requirement.name}{requirement.specifier}'"
    needed = f"{user} needs" if user else "needed is"
    if found is None:
        return problem(requirement.name, f"is not installed{f', and {user} needs it' if user else ''}", remedy)
    if not requirement.specifier.contains(found, prereleases=True):
        return problem(requirement.name, f"{found} is installed, {needed} {requirement.specifier}", remedy)
    return ok(requirement.name, found)


def _check_indirect(users: Iterable[str]) -> Iterator[Finding]:
    """Yield what is wrong with packages that our own ones need; nothing is said about those that are well."""
    waiting = list(users)
    seen = {canonicalize_name(user) for user in waiting}
    while waiting:
        user = waiting.pop()
        for requirement in _requirements(user):
            finding = _check_requirement(requirement, user)
            if finding.level != "ok":
                yield finding
            if (name := canonicalize_name(requirement.name)) not in seen:
                seen.add(name)
                waiting.append(name)


def _check_distro() -> Finding:
    found = _installed(_DISTRO)
    if found is None:
        return problem(
            _DISTRO,
            "is not installed: run and opentelemetry-instrument set no providers up without a distro; an application "
            "that calls opentelemetry_guard.configure() needs none",
            "pip install 'opentelemetry-guard[auto]'",
        )
    return ok(_DISTRO, found)


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
