"""Replace functions of somebody else's module or class in place, and put back what was there."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

AnyFunction = Callable[..., Any]

_ABSENT = object()


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
