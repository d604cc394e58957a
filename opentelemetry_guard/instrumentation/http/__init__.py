"""FastAPI and Starlette applications: their requests are followed, and their answers become events.

`patches` and `measuring` change the frameworks, when these are imported and no sooner.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from ...settings.instrumentation import GuardOptions
from ...settings.once import log_once
from ..patching import OnImport

if TYPE_CHECKING:
    from ...emit import Emitter

_logger = logging.getLogger(__name__)

_following = OnImport(f"{__name__}.patches", ("starlette.applications", "fastapi.applications", "starlette.routing"))
_measuring = OnImport(f"{__name__}.measuring", ("opentelemetry.instrumentation.asgi",))


def install(options: GuardOptions | None = None, emitter: Emitter | None = None) -> None:
    """Follow and judge requests from now on; a second call changes nothing.

    Applications that are served already are followed from their next request on.

    Args:
        options: what is derived and analysed; None is the defaults.
        emitter: where events and metrics go; None is the global providers.
    """
    options = options or GuardOptions()
    if not _following.begin(options, emitter):
        return
    _measuring.begin()
    if options.enforce_rules:
        _say_enforced(options)
    framework = sys.modules.get("starlette.applications")
    if framework is not None and (options.http_events or options.behavior or options.enforce_rules):
        from . import patches

        patches.adopt(framework.Starlette)


def _say_enforced(options: GuardOptions) -> None:
    if options.rules_interval == 0:
        said = (
            "OTEL_PYTHON_GUARD_ENFORCE_RULES has no effect, since OTEL_PYTHON_GUARD_RULES_INTERVAL=0 asks for no rules"
        )
    else:
        said = (
            "the backend's dynamic rules are enforced in FastAPI and Starlette applications, whose requests they can "
            "block (OTEL_PYTHON_GUARD_ENFORCE_RULES)"
        )
    log_once(_logger, logging.WARNING, said)


def uninstall() -> None:
    """Undo `install`."""
    _following.end()
    _measuring.end()
