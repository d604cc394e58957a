"""Results for async and sync code alike: the work is done, and whoever wants to may await it.

A coroutine that nobody awaits warns, and so does mypy where a call is annotated
with one; a plain value can't be awaited. A `Settled` is a coroutine as far as
asyncio is concerned (`await`, `gather`, `create_task`, `asyncio.run`,
`run_until_complete`), any number of times, and nothing happens where it is dropped.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar

from ..models import AgentStatus, DynamicRules

T_co = TypeVar("T_co", covariant=True)


F = TypeVar("F", bound=Callable[..., Any])


def marked(function: F) -> F:
    """Mark a plain function whose result may be awaited as a coroutine function.

    Frameworks that ask whether to await a result (event handlers,
    dependencies, background tasks) then do.
    """
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        mark(function)
    else:  # before Python 3.12
        function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return function


class Settled(Coroutine[Any, Any, T_co]):
    """The base: `_outcome` is what awaiting gives."""

    def _outcome(self) -> T_co:
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, T_co]:
        return self._outcome()
        yield  # makes it the generator that `await` wants

    def send(self, value: object, /) -> Any:
        """End as a coroutine does that returns the outcome."""
        raise StopIteration(self._outcome())

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
        /,
    ) -> Any:
        """End as a coroutine does that lets an exception through."""
        error = typ if isinstance(typ, BaseException) else val if isinstance(val, BaseException) else typ()
        raise error.with_traceback(tb)

    def close(self) -> None:
        """Do nothing: it has ended."""


class Done(Settled[None]):
    """Work that is done and has no result."""

    def _outcome(self) -> None:
        return None

    def __repr__(self) -> str:
        return "<done>"


DONE = Done()
"""The one instance that is needed: it has no state."""


class Deferred(Settled[T_co]):
    """Work that is done while it is awaited: as `Settled` for whoever names its type, and as good a coroutine."""

    def __init__(self, coroutine: Coroutine[Any, Any, T_co]) -> None:
        """Stand for `coroutine`, which is awaited once at most, as any other."""
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, None, T_co]:
        return self._coroutine.__await__()

    def send(self, value: object, /) -> Any:
        """Go on with the work."""
        return self._coroutine.send(value)

    def throw(self, *exception: Any) -> Any:
        """Raise an exception where the work stands."""
        return self._coroutine.throw(*exception)

    def close(self) -> None:
        """Give the work up."""
        self._coroutine.close()


class Flag(int, Settled[bool]):
    """A truth value, as good as True or False in a condition and in a comparison; awaited it is exactly that."""

    def _outcome(self) -> bool:
        return bool(int(self))

    def __repr__(self) -> str:
        return repr(bool(int(self)))

    __str__ = __repr__


class SettledStatus(AgentStatus, Settled[AgentStatus]):
    """An `AgentStatus` that may be awaited."""

    def _outcome(self) -> AgentStatus:
        return AgentStatus.model_construct(**self.__dict__)


class SettledRules(DynamicRules, Settled["DynamicRules | None"]):
    """`DynamicRules` that may be awaited."""

    def _outcome(self) -> DynamicRules | None:
        return DynamicRules.model_construct(**self.__dict__)


class NoRules(SettledRules):
    """No rules: every field has its default, it is false in a condition, and awaited it is None."""

    def _outcome(self) -> None:
        return None

    def __bool__(self) -> bool:
        return False


class AskedRules(Deferred["DynamicRules | None"], NoRules):
    """No rules so far; awaited, those that the backend is asked for meanwhile."""

    @classmethod
    def by(cls, coroutine: Coroutine[Any, Any, DynamicRules | None]) -> AskedRules:
        """Return what `coroutine` asks for."""
        asked = cls.model_construct()
        asked._coroutine = coroutine
        return asked
