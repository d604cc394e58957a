"""What all processes of a database need to know of the dashboard's sessions: what signs them, and which were ended."""

from __future__ import annotations

import secrets
import time

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from .database import Database
from .tables import ended_sessions, signing_keys

_SESSIONS = "sessions"


class StoredSessions:
    """The sessions of a database; safe to call from any thread."""

    def __init__(self, database: Database) -> None:
        """Keep them in `database`."""
        self._database = database

    def signing_key(self) -> bytes:
        """Return the 32 bytes that sign; whoever asks first makes them."""
        wanted = select(signing_keys.c.value).where(signing_keys.c.name == _SESSIONS)
        found = self._database.read(wanted)
        if not found:
            made = insert(signing_keys).values(name=_SESSIONS, value=secrets.token_bytes(32)).on_conflict_do_nothing()
            with self._database.writing() as connection:
                connection.execute(made)
            found = self._database.read(wanted)
        return bytes(found[0][0])

    def end(self, session_id: str, expires_at: float) -> None:
        """Note that a session holds no longer, for as long as it would have: until `expires_at` (Unix seconds)."""
        ended = insert(ended_sessions).values(id=session_id, expires_at=expires_at).on_conflict_do_nothing()
        with self._database.writing() as connection:
            connection.execute(delete(ended_sessions).where(ended_sessions.c.expires_at < time.time()))
            connection.execute(ended)

    def is_ended(self, session_id: str) -> bool:
        """Whether a session was ended, at this process or another one."""
        return bool(self._database.read(select(ended_sessions.c.id).where(ended_sessions.c.id == session_id)))
