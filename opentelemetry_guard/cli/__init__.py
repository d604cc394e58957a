"""The command ``opentelemetry-guard``. Needs the extra ``cli``; importing this package needs nothing of it."""

from __future__ import annotations

import sys

_PACKAGES = frozenset({"typer", "click", "rich"})
"""What the extra ``cli`` brings."""


def main() -> None:
    """Run the command line; without its packages, say in one line which extra brings them."""
    try:
        from .app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _PACKAGES:
            raise
        sys.exit(f"opentelemetry-guard needs {error.name}: pip install 'opentelemetry-guard[cli]'")
    app(prog_name="opentelemetry-guard")
