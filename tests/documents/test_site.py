"""The documentation site: every page is in it, every link leads somewhere, every public name is explained."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.backend import ROOT

import opentelemetry_guard

PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly from a copy of what it is made of."""
    pytest.importorskip("zensical", reason="the site's generator needs Python 3.11")
    root = tmp_path_factory.mktemp("site")
    for name in ("mkdocs.yml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, root)
    for name in ("docs", "opentelemetry_guard"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    zensical = Path(sys.executable).parent / "zensical"
    build = subprocess.run([zensical, "build", "--strict"], cwd=root, capture_output=True, text=True, timeout=300)
    assert build.returncode == 0, build.stdout + build.stderr
    return root / "site"


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"[\w-]+\.md", yaml.safe_dump(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(name for name in listed if name != "README.md") == PAGES


def test_every_page_is_built(site: Path) -> None:
    built = {path.parent.name for path in site.glob("*/index.html")}
    assert {Path(name).stem for name in PAGES} - {"index"} <= built


def test_every_public_name_is_in_the_reference_with_its_docstring(site: Path) -> None:
    page = (site / "reference" / "index.html").read_text()
    anchors = set(re.findall(r'id="(opentelemetry_guard(?:\.\w+)+)"', page))
    documented = {anchor.removeprefix("opentelemetry_guard.") for anchor in anchors}
    assert set(opentelemetry_guard.__all__) - {"__version__"} <= documented
    assert all(getattr(opentelemetry_guard, name).__doc__ for name in opentelemetry_guard.__all__)
