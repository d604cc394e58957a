"""Functions are replaced in place and put back."""

from __future__ import annotations

from opentelemetry_guard.instrumentation.patching import AnyFunction, Patches


class Base:
    def inherited(self) -> str:
        return "base"


class Patched(Base):
    def own(self) -> str:
        """Say so."""
        return "own"


def loudly(function: AnyFunction) -> AnyFunction:
    return lambda *args: function(*args).upper()


def test_own_and_inherited_functions_are_replaced_and_put_back() -> None:
    before = dict(vars(Patched))
    patches = Patches()
    patches.wrap(Patched, "own", loudly)
    patches.wrap(Patched, "inherited", loudly)
    assert (Patched().own(), Patched().inherited(), Base().inherited()) == ("OWN", "BASE", "base")
    assert (Patched.own.__name__, Patched.own.__doc__) == ("own", "Say so.")
    patches.undo()
    assert dict(vars(Patched)) == before


def test_what_somebody_else_has_replaced_since_is_left_alone() -> None:
    class Target(Patched):
        def own(self) -> str:
            return "target"

    patches = Patches()
    patches.wrap(Target, "own", loudly)
    Target.own = theirs = lambda self: "theirs"  # type: ignore[method-assign]
    patches.undo()
    assert Target.own is theirs
