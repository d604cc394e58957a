"""API keys: which project does a key belong to, and how much may its owner send?

Keys come from two places: the command that runs the backend names one, which
lives as long as the process, and the database keeps any number of them. Of
either only the SHA-256 is kept. A fast hash is enough for what is 256 random
bits: there is no dictionary to try.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from sqlalchemy import insert, select, update

from .database import Database
from .tables import api_keys

KEY_BEGINNING = "guard_"
"""How the keys begin that are made here."""

SENDER = "sender"
"""The role of a key that applications send with, and ask for rules."""
VIEWER = "viewer"
"""The role of a key that somebody looks at a project with; it changes nothing."""
ROLES = (SENDER, VIEWER)
"""What a key may be for."""


def generate_key() -> str:
    """Return a new API key of 256 random bits that is safe in URLs and shells."""
    return KEY_BEGINNING + secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key allows in one project: `per_minute` requests (None: what the backend's setting says) of its `role`.

    `key_id` is its number in the database; None where it has none.
    """

    project_id: str
    digest: bytes = field(repr=False)
    per_minute: int | None = None
    role: str = SENDER
    key_id: int | None = None


class ApiKeys:
    """The keys that a backend was started with. Each belongs to one project, and only its SHA-256 is kept."""

    def __init__(self, projects: Mapping[str, str]) -> None:
        """Take the project id of each key.

        Raises:
            ValueError: a key or a project id is empty.
        """
        if "" in projects:
            raise ValueError("An API key is empty: give it at least one character.")
        if "" in projects.values():
            raise ValueError("A project id is empty: give it at least one character.")
        self._projects = {_digest(key): project for key, project in projects.items()}

    @property
    def project_ids(self) -> set[str]:
        """The projects that a key belongs to."""
        return set(self._projects.values())

    def project_of(self, key: str) -> str | None:
        """Return the project of `key`, None for an unknown key, in a time that doesn't depend on how close it is."""
        grant = self.grant(key)
        return None if grant is None else grant.project_id

    def grant(self, key: str) -> Grant | None:
        """Return what `key` allows, as `project_of`."""
        offered = _digest(key)
        found = None
        for known, project in self._projects.items():
            if hmac.compare_digest(known, offered):
                found = Grant(project, offered)
        return found


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key of the database as it is listed. Times are in Unix seconds; the key itself is not known any more."""

    id: int
    project_id: str
    label: str
    created_at: float
    revoked_at: float | None
    per_minute: int | None
    role: str


class StoredKeys:
    """The keys in a database; safe to call from any thread, and from another process than the backend's."""

    def __init__(self, database: Database) -> None:
        """Keep the keys in `database`."""
        self._database = database

    def create(
        self, project_id: str, label: str = "", per_minute: int | None = None, role: str = SENDER
    ) -> tuple[KeyRecord, str]:
        """Make a key for a project; the key is in the answer, and nowhere else.

        Raises:
            ValueError: the project id is empty, `per_minute` is not positive, or `role` is none of `ROLES`.
        """
        if role not in ROLES:
            raise ValueError(f"A key has one of the roles {', '.join(ROLES)}, not {role}.")
        if not project_id:
            raise ValueError("A project id is empty: give it at least one character.")
        if per_minute is not None and per_minute < 1:
            raise ValueError(f"The limit of requests a minute is {per_minute}: it must be at least 1.")
        key, now = generate_key(), time.time()
        with self._database.writing() as connection:
            columns = {
                **{"project_id": project_id, "label": label, "digest": _digest(key)},
                **{"created_at": now, "per_minute": per_minute, "role": role},
            }
            number = connection.scalars(insert(api_keys).values(columns).returning(api_keys.c.id)).one()
        return KeyRecord(number, project_id, label, now, None, per_minute, role), key

    def grant(self, key: str) -> Grant | None:
        """Return what `key` allows; None when it is unknown or revoked."""
        digest = _digest(key)
        # Looking a hash up tells nothing about the key: its bytes can't be chosen one by one.
        found = self._database.read(
            select(*(api_keys.c[name] for name in ("project_id", "per_minute", "role", "id"))).where(
                api_keys.c.digest == digest, api_keys.c.revoked_at.is_(None)
            )
        )
        if not found:
            return None
        project_id, *others = found[0]
        return Grant(project_id, digest, *others)

    def viewed(self, key_id: int) -> str | None:
        """Return the project that a viewer's key shows; None when there is no such key, or it is revoked."""
        found = self._database.read(
            select(api_keys.c.project_id).where(
                api_keys.c.id == key_id, api_keys.c.role == VIEWER, api_keys.c.revoked_at.is_(None)
            )
        )
        return str(found[0][0]) if found else None

    def records(self, project_id: str | None = None) -> list[KeyRecord]:
        """Return the keys of one project, or of all, oldest first."""
        chosen = select(*(api_keys.c[field.name] for field in fields(KeyRecord))).order_by(api_keys.c.id)
        if project_id is not None:
            chosen = chosen.where(api_keys.c.project_id == project_id)
        return [KeyRecord(*values) for values in self._database.read(chosen)]

    def revoke(self, key_id: int) -> bool:
        """Take a key back from now on; False when there is no such key, or it is revoked already."""
        with self._database.writing() as connection:
            revoked = connection.execute(
                update(api_keys)
                .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=time.time())
            )
        return revoked.rowcount == 1


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
