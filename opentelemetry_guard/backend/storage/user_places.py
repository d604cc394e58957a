"""Where users come from: each address and country of each, with when it was seen first and last.

Added up while rows come in, and for few of them: an event counts that names a
user, and tells of somebody whom the application has recognised.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, delete, exists, select
from sqlalchemy.dialects.postgresql import insert

from ...events.known import LOGON, TEST_EVENT, meaning_of
from ..alerts.evaluation import NewPlace
from .database import Database
from .rollups import EventFacts
from .tables import user_places

KINDS = ("address", "country")

FORGOTTEN_SECONDS = 180 * 86_400
"""A place that its user hasn't come from for so long is a new one again."""

_NAMES = ("kind", "user_name", "place")
_offered = insert(user_places)
_NOTE = _offered.on_conflict_do_update(
    index_elements=user_places.primary_key, set_={"last_seen": _offered.excluded.last_seen}
)


def add_user_places(connection: Connection, project_id: str, events: Iterable[EventFacts], received_at: float) -> None:
    """Note the places of events that were stored in the transaction under way, which came at `received_at`."""
    places = {
        (kind, event.user, place)
        for event in events
        # Who fails to log in as somebody is not that user.
        if event.user and event.event_type != TEST_EVENT and meaning_of(event.event_type).behavior != LOGON
        for kind, place in zip(KINDS, (event.address, event.country), strict=True)
        if place
    }
    if places:
        seen = {"project_id": project_id, "first_seen": received_at, "last_seen": received_at}
        connection.execute(_NOTE, [{**seen, **dict(zip(_NAMES, place, strict=True))} for place in sorted(places)])


def new_places(database: Database, project_id: str, since: float, most: int) -> list[NewPlace]:
    """Return the latest places, `most` at most, that users came from for the first time at `since` or later.

    The first place of a user is none of them: nothing was known of it before.
    """
    one, other = user_places.alias("one"), user_places.alias("other")
    from_elsewhere = exists().where(
        other.c.project_id == one.c.project_id,
        other.c.kind == one.c.kind,
        other.c.user_name == one.c.user_name,
        other.c.first_seen < one.c.first_seen,
    )
    found = database.read(
        select(one.c.kind, one.c.user_name, one.c.place, one.c.first_seen)
        .where(one.c.project_id == project_id, one.c.first_seen >= since, from_elsewhere)
        .order_by(one.c.first_seen.desc())
        .limit(most)
    )
    return [NewPlace(*values) for values in found]


def forget_places(database: Database, now: float) -> None:
    """Forget places that were seen last `FORGOTTEN_SECONDS` before `now` (Unix seconds)."""
    with database.writing() as connection:
        connection.execute(delete(user_places).where(user_places.c.last_seen < now - FORGOTTEN_SECONDS))
