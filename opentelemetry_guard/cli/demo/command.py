"""``opentelemetry-guard demo``: the whole road on one machine."""

from __future__ import annotations

import importlib.util
from typing import Annotated

import typer

from ..failure import fail


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave backend and shop running, until Ctrl+C.")] = False,
) -> None:
    """Run a local backend and an instrumented shop, attack the shop, and show what has arrived.

    Everything listens on loopback, on free ports, and nothing stays behind.
    """
    for package, extra in (
        ("uvicorn", "backend"),
        ("fastapi", "backend"),
        ("jinja2", "backend"),
        ("opentelemetry.distro", "auto"),
    ):
        if importlib.util.find_spec(package) is None:
            fail(f"The demonstration needs {package}: pip install 'opentelemetry-guard[{extra}]'.")
    from . import tour

    if wrong := tour.run(keep):
        fail(f"The demonstration went wrong: {'; '.join(wrong)}.")
