"""The wheel alone can be imported, and with each extra alone what that extra is for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.backend import ROOT
from support.terminal import ask_index
from support.wheel import built

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.slow

EXTRAS = sorted(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys() - {"dev", "release"}
)

QUICK = ("auto", "cli", "durable")
"""Those that are tried in every run of the suite; `make test-extras` tries all of them."""

FOR = {
    "auto": ["opentelemetry.distro"],
    "backend": ["opentelemetry_guard.backend.app", "opentelemetry_guard.backend.server"],
    "cli": ["opentelemetry_guard.cli.app", "opentelemetry_guard.cli.doctor", "opentelemetry_guard.cli.queue"],
    "crawlers": ["dns.resolver"],
    "declarative": ["opentelemetry.configuration"],
    "durable": ["opentelemetry_guard.durable"],
    "encryption": ["opentelemetry_guard.delivery.envelope", "cryptography.hazmat.primitives.ciphers.aead"],
    "fastapi-guard": ["opentelemetry_guard.instrumentation.fastapi_guard", "guard"],
    "patterns": ["opentelemetry_guard.decision.patterns", "re2"],
    "postgresql": ["opentelemetry_guard.backend.app", "psycopg"],
    "resources": ["psutil"],
}
"""What an extra is for. An extra that is not here brings at least nothing that keeps the rest from being imported."""

BY_EXTRAS = (["backend"], ["cli"], ["durable"], ["testing"])
"""Rooms of which parts need an extra; everything else needs the wheel alone."""

LOOK = """
import importlib, json, pkgutil, sys
import opentelemetry_guard

missing = {}
for name in opentelemetry_guard.__all__:
    try:
        getattr(opentelemetry_guard, name)
    except ModuleNotFoundError as error:
        missing[name] = error.name
for found in pkgutil.walk_packages(opentelemetry_guard.__path__, "opentelemetry_guard.", onerror=lambda name: None):
    # What is run, and what Alembic runs, is not there to be imported.
    if found.name.rpartition(".")[2] == "__main__" or ".migrations." in found.name:
        continue
    try:
        importlib.import_module(found.name)
    except ModuleNotFoundError as error:
        missing[found.name] = error.name
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(missing))
"""


def make(directory: Path, requirement: str, beside: Path | None = None) -> Path:
    """Make an environment with a requirement in it; what is in the packages of `beside` is there already."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True, timeout=120)
    (packages,) = directory.glob("lib/python*/site-packages")
    if beside is not None:
        (packages / "beside.pth").write_text(f"{beside}\n")
    python = str(directory / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    ran = subprocess.run([*pip, requirement], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return packages


def not_there(directory: Path, *names: str) -> dict[str, str]:
    """Import everything, and `names` besides, which have to be there; return the modules that lack a package."""
    python = directory / "bin" / "python"
    ran = subprocess.run([python, "-I", "-c", LOOK, *names], cwd=directory, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    missing: dict[str, str] = json.loads(ran.stdout)
    return missing


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    ask_index(directory)
    return built(directory)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Iterator[tuple[Path, Path]]:
    """An environment with the wheel alone, and where its packages are."""
    directory = tmp_path_factory.mktemp("plain")
    yield directory, make(directory, str(wheel))
    shutil.rmtree(directory / "lib")


def test_the_wheel_alone_has_all_that_no_extra_is_for(plain: tuple[Path, Path]) -> None:
    missing = not_there(plain[0])
    rest = {name: package for name, package in missing.items() if name.split(".")[1:2] not in BY_EXTRAS}
    # Exception handlers are for endpoints of Starlette and FastAPI, which whoever has such endpoints has.
    assert rest == {"Guard": "starlette", "opentelemetry_guard.agent.protect": "starlette"}
    assert not any(package.startswith("opentelemetry_guard") for package in missing.values())


@pytest.mark.parametrize("extra", EXTRAS if os.environ.get("ALL_EXTRAS") else QUICK)
def test_each_extra_alone_brings_what_it_is_for(
    tmp_path: Path, wheel: Path, plain: tuple[Path, Path], extra: str
) -> None:
    make(tmp_path, f"{wheel}[{extra}]", beside=plain[1])
    missing = not_there(tmp_path, *FOR.get(extra, ()))
    shutil.rmtree(tmp_path / "lib")
    assert set(missing) <= set(not_there(plain[0]))
    assert not missing.keys() & set(FOR.get(extra, ()))
