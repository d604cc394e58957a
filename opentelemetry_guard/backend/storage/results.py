"""The types of statements and rows whose columns mypy isn't told of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, Select

if TYPE_CHECKING:
    from typing import TypeAlias

    from typing_extensions import Unpack

    AnyRow: TypeAlias = Row[Unpack[tuple[Any, ...]]]
    AnySelect: TypeAlias = Select[Unpack[tuple[Any, ...]]]
else:
    AnyRow, AnySelect = Row, Select
