"""``python -m opentelemetry_guard.cli``."""

from . import main

main()
