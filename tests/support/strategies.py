"""Hypothesis strategies: valid events of every form, and values that no JSON encoder expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timezone
from decimal import Decimal
from enum import Enum
from typing import Any

from hypothesis import strategies as st

from opentelemetry_guard.events.codec import to_row
from opentelemetry_guard.models import SecurityEvent
from opentelemetry_guard.privacy import Privacy

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)

_CONTEXT = {"trace_id", "span_id"}
_optional_text = st.none() | st.text(max_size=40)

any_events: st.SearchStrategy[SecurityEvent] = st.builds(
    lambda fields, extra: SecurityEvent.model_validate({**extra, **fields}),
    st.fixed_dictionaries(
        {"event_type": st.text(min_size=1, max_size=40)},
        optional={
            "idempotency_key": st.uuids().map(str),
            "timestamp": st.datetimes(timezones=st.just(timezone.utc)),
            "ip_address": st.text(max_size=40),
            "country": _optional_text,
            "user_agent": _optional_text,
            "action_taken": st.text(max_size=40),
            "reason": st.text(max_size=40),
            "endpoint": _optional_text,
            "method": _optional_text,
            "status_code": st.none() | st.integers(-(2**63), 2**63 - 1),
            "response_time": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "decorator_type": _optional_text,
            "rule_type": _optional_text,
            "pattern_matched": _optional_text,
            "handler_name": _optional_text,
            "metadata": st.dictionaries(
                st.text(max_size=10).filter(lambda key: key not in _CONTEXT), json_values, max_size=4
            ),
        },
    ),
    st.dictionaries(
        st.text(min_size=1, max_size=10).filter(lambda key: key not in SecurityEvent.model_fields),
        json_values,
        max_size=3,
    ),
)
"""Any event that the contract allows."""


def _holds_no_secret(event: SecurityEvent) -> bool:
    row = to_row(event)[0]
    return Privacy().cleaned(row) == row


events = any_events.filter(_holds_no_secret)
"""Any event that privacy leaves as it is; hypothesis takes words like "cookie" from the code that it tests."""


class Colour(Enum):
    """An enumeration with awkward values."""

    RED = Decimal("0.1")
    BLUE = float("nan")


class TextColour(str, Enum):
    """An enumeration whose members are strings."""

    GREEN = "green"


class RaisesAsText:
    """An object that can't say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class RaisesWhenRead(Mapping[str, object]):
    """A mapping whose iteration raises."""

    def __getitem__(self, key: str) -> object:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no iteration")

    def __len__(self) -> int:
        raise RuntimeError("no length")


class RaisesAsClass:
    """A proxy to nothing, like werkzeug's outside a request: even `isinstance` raises."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("unbound")

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise RuntimeError("unbound")


class HostileText(str):
    """A string that raises when it is converted."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class HostileInt(int):
    """An integer that raises when it is converted or compared."""

    def __int__(self) -> int:
        raise RuntimeError("no int")

    def __le__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __ge__ = __le__


def cycle() -> dict[str, object]:
    """Return a mapping that contains itself."""
    made: dict[str, object] = {}
    made["itself"] = [made]
    return made


def nested(depth: int) -> list[object]:
    """Return lists inside one another."""
    made: list[object] = []
    for _ in range(depth):
        made = [made]
    return made


def released_view() -> memoryview:
    """Return a memoryview that can't be read any more."""
    view = memoryview(b"gone")
    view.release()
    return view


bad_values: dict[str, Any] = {
    "Decimal": Decimal("1.5"),
    "bytes": b"\xff\x00raw",
    "datetime": datetime(2026, 1, 2, 3, 4, 5),
    "date": date(2026, 1, 2),
    "time": time(3, 4),
    "set": {"b", "a"},
    "set of unlike things": {1, "a", None},
    "lone surrogate": "\ud800",
    "huge integer": 2**64,
    "integer with 5000 digits": 10**5000,
    "NaN": float("nan"),
    "infinity": float("-inf"),
    "complex": 1j,
    "cycle": cycle(),
    "500 deep": nested(500),
    "text that raises": RaisesAsText(),
    "mapping that raises": RaisesWhenRead(),
    "proxy to nothing": RaisesAsClass(),
    "hostile string": HostileText("x"),
    "hostile integer": HostileInt(5),
    "released memoryview": released_view(),
    "generator": (item for item in "abc"),
    "enumeration": Colour.BLUE,
    "keys that are not text": {None: 1, 2: 3, b"k": 4, ("t",): 5, TextColour.GREEN: 6, "\udfff": 7},
    "type": int,
}
"""Values by what is wrong with them."""

_text_with_surrogates = st.text(st.characters(), max_size=10)

python_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.decimals()
    | st.fractions()
    | st.binary(max_size=10)
    | st.binary(max_size=10).map(bytearray)
    | _text_with_surrogates
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    # Hypothesis itself can't hold a value whose __class__ raises.
    | st.sampled_from([name for name in bad_values if name != "proxy to nothing"]).map(lambda name: bad_values[name])
    | st.sampled_from([*Colour, *TextColour])
    | st.builds(object),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.none() | st.integers() | st.binary(max_size=4) | _text_with_surrogates, inner, max_size=4)
        | st.frozensets(st.integers() | _text_with_surrogates | st.decimals(allow_nan=False), max_size=4)
    ),
    max_leaves=15,
)
"""Any Python value that somebody may put into an event."""
