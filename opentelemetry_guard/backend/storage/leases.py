"""Who of several processes on one database does what only one is to do."""

from __future__ import annotations

from sqlalchemy import delete, or_
from sqlalchemy.dialects.postgresql import insert

from .database import Database
from .tables import leases


def take_lease(database: Database, name: str, holder: str, now: float, seconds: float) -> bool:
    """Hold what is called `name` for so many seconds from `now` (Unix seconds); False while somebody else holds it."""
    wanted = insert(leases).values(name=name, holder=holder, until=now + seconds)
    taking = wanted.on_conflict_do_update(
        index_elements=leases.primary_key,
        set_={"holder": wanted.excluded.holder, "until": wanted.excluded.until},
        where=or_(leases.c.holder == holder, leases.c.until < now),
    )
    with database.writing() as connection:
        return connection.execute(taking.returning(leases.c.name)).first() is not None


def give_lease_back(database: Database, name: str, holder: str) -> None:
    """Let somebody else hold what `holder` may hold."""
    with database.writing() as connection:
        connection.execute(delete(leases).where(leases.c.name == name, leases.c.holder == holder))
