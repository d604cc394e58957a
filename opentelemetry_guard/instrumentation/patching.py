"""Change somebody else's modules in place, when they are imported, and in ways that can be undone.

- `OnImport` makes the changes as soon as there is something to change.
- `Patches` replaces functions and puts back what was there.
- `unexpected` says that a change has failed: an application's requests and imports never depend on one.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from functools import update_wrapper
from importlib import import_module
from types import ModuleType
from typing import Any

from wrapt import register_post_import_hook

from ..settings.once import log_once

AnyFunction = Callable[..., Any]

_ABSENT = object()


class OnImport:
    """Changes that are made in modules when these are imported, or at once where they are, until `end`.

    What makes them is a module that is imported no sooner, so that a process without the framework pays for nothing.
    It has ``apply(module, *settings)``, which never raises, and ``remove()``, which undoes all of it.
    """

    def __init__(self, changes: str, modules: Iterable[str]) -> None:
        """Prepare for changes.

        Args:
            changes: the name of the module that makes them.
            modules: the names of those that are changed.
        """
        self._changes = changes
        self._modules = tuple(modules)
        self._hooked = False
        self._settings: tuple[object, ...] | None = None

    def begin(self, *settings: object) -> bool:
        """Make the changes from now on, with `settings`; return False where they are made already."""
        if self._settings is not None:
            return False
        self._settings = settings
        if self._hooked:
            for module in filter(None, map(sys.modules.get, self._modules)):
                self._on_import(module)
        else:
            # An import hook can't be taken back; one that comes up while we are not active does nothing.
            self._hooked = True
            for name in self._modules:
                register_post_import_hook(self._on_import, name)
        return True

    def end(self) -> None:
        """Undo the changes."""
        if self._settings is not None and (changes := sys.modules.get(self._changes)) is not None:
            changes.remove()
        self._settings = None

    def _on_import(self, module: ModuleType) -> None:
        if self._settings is not None:
            import_module(self._changes).apply(module, *self._settings)


def unexpected(logger: logging.Logger, what: str, error: Exception, level: int = logging.ERROR) -> None:
    """Log, once for each `what`, that something failed which nothing of the application's depends on."""
    from ..privacy import told  # here: it loads the models, which nobody needs while nothing fails

    log_once(logger, level, f"{what}: {told(error)}; please report this", cause=what)


class Patches:
    """What has been replaced, so that it can be undone."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, object, AnyFunction]] = []

    def wrap(self, owner: object, name: str, wrapping: Callable[[AnyFunction], AnyFunction]) -> None:
        """Replace a function by what `wrapping` makes of it.

        Args:
            owner: the module or the class. A class stays the same object, because its users compare it by identity.
            name: the function's name; an inherited one is replaced for `owner` alone.
            wrapping: takes the function, returns its replacement.

        Raises:
            AttributeError: `owner` has no such function.
        """
        original: AnyFunction = getattr(owner, name)
        before = vars(owner).get(name, _ABSENT)
        replacement = update_wrapper(wrapping(original), original)
        setattr(owner, name, replacement)
        self._done.append((owner, name, before, replacement))

    def undo(self) -> None:
        """Put everything back, the latest first; what somebody else has replaced since then stays as they left it."""
        while self._done:
            owner, name, before, replacement = self._done.pop()
            if vars(owner).get(name) is not replacement:
                continue
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
