"""The command ``opentelemetry-guard``. Needs the extra ``cli``; importing this package needs nothing of it."""

from __future__ import annotations

import sys

from .ctrl_c import EXIT_CODE, ending_on_the_spot


def main() -> None:
    """Run the command line; say in one line which package is missing, wherever it was needed."""
    try:
        with ending_on_the_spot():  # the machinery of imports has finalizers, too
            from .app import call

        sys.exit(call())
    except KeyboardInterrupt:
        sys.exit(EXIT_CODE)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "opentelemetry_guard"):
            raise
        sys.exit(f"Error: opentelemetry-guard needs {package} ({error}): pip install 'opentelemetry-guard[cli]'")
