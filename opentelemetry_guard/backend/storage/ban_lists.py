"""Ban lists of others in a database: which there are, what each said last, and whose turn it is to be fetched."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import orjson
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from ...models import BanSource, DynamicRules
from .database import Database
from .tables import ban_lists

RETRY_SECONDS = 300.0
"""Seconds after which a list that could not be had is asked for again, where its usual pause is longer."""

_LONGEST_NAME = 200
"""Characters of a list's URL by which events call it."""


def shown_url(url: str) -> str:
    """Return a list's URL without what may be secret in it: user, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "…" if parts.query else "", ""))


@dataclass(frozen=True, slots=True)
class BanList:
    """A list as it is shown; times are in Unix seconds, 0 for never.

    Attributes:
        project_id: whose bans it adds to.
        url: where it comes from; it may hold a password.
        every: seconds between two questions for it.
        size: entries that are in force.
        passed_over: entries of it that are not taken.
        changed_at: when its entries were others before.
        checked_at: when it was asked for.
        problem: why it could not be had then, "" where it could.
    """

    project_id: str
    url: str
    every: float
    size: int
    passed_over: int
    changed_at: float
    checked_at: float
    problem: str


@dataclass(frozen=True, slots=True)
class DueList:
    """A list that is to be fetched; `headers` has the variable that each header's value is in."""

    project_id: str
    url: str
    every: float
    headers: Mapping[str, str]
    etag: str
    last_modified: str
    checked_at: float


class StoredLists:
    """The lists in a database; safe to call from any thread, and from another process than the backend's."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        """Keep lists in `database`; `clock` returns Unix seconds."""
        self._database = database
        self._clock = clock

    def add(self, project_id: str, url: str, every: float, headers: Mapping[str, str]) -> None:
        """Add a list to a project, to be fetched soon; one that is there goes by what is new of this."""
        settings = {"every": every, "headers": orjson.dumps(dict(headers)).decode(), "due_at": 0.0, "problem": ""}
        with self._database.writing() as connection:
            known = connection.execute(update(ban_lists).where(*_is(project_id, url)).values(settings)).rowcount
            if not known:
                nothing = {"content": "", "size": 0, "passed_over": 0, "changed_at": 0.0, "checked_at": 0.0}
                validators = {"etag": "", "last_modified": ""}
                row = {"project_id": project_id, "url": url, **settings, **nothing, **validators}
                connection.execute(insert(ban_lists).values(row))

    def remove(self, project_id: str, url: str) -> bool:
        """Remove a list, and with it its bans; False when the project has no such list."""
        with self._database.writing() as connection:
            return connection.execute(delete(ban_lists).where(*_is(project_id, url))).rowcount == 1

    def of(self, project_id: str | None = None) -> list[BanList]:
        """Return the lists of a project, or of all, by project and URL."""
        names = ("project_id", "url", "every", "size", "passed_over", "changed_at", "checked_at", "problem")
        chosen = select(*(ban_lists.c[name] for name in names)).order_by(ban_lists.c.project_id, ban_lists.c.url)
        if project_id is not None:
            chosen = chosen.where(ban_lists.c.project_id == project_id)
        return [BanList(*values) for values in self._database.read(chosen)]

    def entries(self, project_id: str, url: str) -> list[str]:
        """Return what a list bans."""
        found = self._database.read(select(ban_lists.c.content).where(*_is(project_id, url)))
        return found[0][0].split() if found else []

    def merged(self, project_id: str, rules: DynamicRules) -> DynamicRules:
        """Return rules with the bans of the project's lists after the operator's own, and whose they are."""
        found = self._database.read(
            select(ban_lists.c.url, ban_lists.c.content)
            .where(ban_lists.c.project_id == project_id, ban_lists.c.size > 0)
            .order_by(ban_lists.c.url)
        )
        if not found:
            return rules
        bans = dict.fromkeys(rules.ip_blacklist)
        sources: list[BanSource] = []
        for url, content in found:
            before = len(bans)
            bans |= dict.fromkeys(entry for entry in content.split() if entry not in bans)
            sources.append(BanSource(name=shown_url(url)[:_LONGEST_NAME], first=before, count=len(bans) - before))
        return rules.model_copy(update={"ip_blacklist": list(bans), "ip_blacklist_sources": sources})

    def mark(self, project_id: str) -> object:
        """Return what changes whenever the project's lists ban others."""
        chosen = select(func.count(), func.max(ban_lists.c.changed_at)).where(
            ban_lists.c.project_id == project_id, ban_lists.c.size > 0
        )
        return tuple(self._database.read(chosen)[0])

    def claim(self) -> DueList | None:
        """Return the list that is due longest, which counts as asked for from now on; None where none is due."""
        now = self._clock()
        due = ban_lists.c.due_at <= now
        if not self._database.read(select(ban_lists.c.url).where(due).limit(1)):
            return None  # the usual case writes nothing
        names = ("project_id", "url", "every", "headers", "etag", "last_modified")
        with self._database.writing() as connection:
            chosen = select(*(ban_lists.c[name] for name in names)).where(due).order_by(ban_lists.c.due_at).limit(1)
            found = connection.execute(chosen).first()
            if found is None:
                return None
            project_id, url, every, headers, etag, last_modified = found
            values = {"due_at": now + min(every, RETRY_SECONDS), "checked_at": now}
            connection.execute(update(ban_lists).where(*_is(project_id, url)).values(values))
        return DueList(project_id, url, every, orjson.loads(headers), etag, last_modified, now)

    def changed(self, due: DueList, entries: Sequence[str], passed_over: int, etag: str, last_modified: str) -> None:
        """Keep what a list says now."""
        content = "\n".join(entries)
        with self._database.writing() as connection:
            before = connection.execute(select(ban_lists.c.content).where(*_is(due.project_id, due.url))).first()
            values: dict[str, object] = {"etag": etag, "last_modified": last_modified, "passed_over": passed_over}
            if before is not None and before[0] != content:
                values |= {"content": content, "size": len(entries), "changed_at": self._clock()}
            self._settle(due, connection, {**values, **self._next(due)})

    def unchanged(self, due: DueList) -> None:
        """Note that a list is still what it was."""
        with self._database.writing() as connection:
            self._settle(due, connection, self._next(due))

    def failed(self, due: DueList, problem: str) -> None:
        """Note why a list could not be had; it stays what it was, and is soon asked for again."""
        with self._database.writing() as connection:
            self._settle(due, connection, {"problem": problem})

    def _next(self, due: DueList) -> dict[str, object]:
        return {"problem": "", "due_at": due.checked_at + due.every}

    def _settle(self, due: DueList, connection: Connection, values: Mapping[str, object]) -> None:
        connection.execute(update(ban_lists).where(*_is(due.project_id, due.url)).values(values))


def _is(project_id: str, url: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return ban_lists.c.project_id == project_id, ban_lists.c.url == url
