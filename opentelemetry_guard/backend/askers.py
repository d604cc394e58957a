"""Who asks for rules: the installations that enforce them, as far as a backend can know.

An ETag of the rules begins with their version, so that the next question of
an installation tells which version it has taken over. What they ask at one
process is written for the others, all of it at once and now and then: an
installation asks every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from fastapi.concurrency import run_in_threadpool

from ..settings.once import log_once
from .storage.askers import MOST_ASKERS, Asker, StoredAskers
from .storage.database import DATABASE_ERRORS, reason_of

logger = logging.getLogger(__name__)

_WRITE_SECONDS = 1.0
"""How long what installations ask is gathered before it is written for the other processes."""

_AGAIN_SECONDS = 30.0
"""Seconds after which is written again that an installation asks, where it has nothing else to say."""

_NOBODY = Asker(float("-inf"), None, 0)

_TAGGED = re.compile(r'"v(\d{1,9})-')


def etag(version: int, digest: str) -> str:
    """Return the ETag of rules: their version, and the `digest` of the document."""
    return f'"v{version}-{digest}"'


@dataclass(frozen=True, slots=True)
class Enforcement:
    """How many installations of a project ask for rules now, and the seconds within which all of them ask again."""

    asking: int
    within: int

    @property
    def sentence(self) -> str:
        """What to tell somebody who changes the rules."""
        if not self.asking:
            return (
                "None of this project's applications asks for rules, so nothing is enforced: add GuardRulesMiddleware, "
                "fastapi-guard, or OTEL_PYTHON_GUARD_ENFORCE_RULES=true."
            )
        who = "1 running application asks" if self.asking == 1 else f"{self.asking} running applications ask"
        return f"{who} for rules: a change is in force there within {self.within} s."


class Askers:
    """The installations that asked for rules, by project and install id, at this process and at others."""

    def __init__(self, stored: StoredAskers) -> None:
        """Tell the other processes by `stored`, and hear of theirs."""
        self._stored = stored
        self._lock = threading.Lock()  # guards `_news` and `_written`
        self._news: dict[tuple[str, str], Asker] = {}
        self._written: OrderedDict[tuple[str, str], Asker] = OrderedDict()
        self._writing: asyncio.Task[None] | None = None

    def note(self, project_id: str, install_id: str, if_none_match: str, ttl: int, now: float) -> None:
        """Note that an installation asks at `now` (Unix seconds), and may keep the answer for `ttl` seconds.

        To be called on the event loop.
        """
        named = _TAGGED.search(if_none_match)
        asker = Asker(now, int(named[1]) if named else None, ttl)
        key = (project_id, install_id)
        with self._lock:
            written = self._written.get(key, _NOBODY)
            if replace(written, asked_at=now) == asker and now - written.asked_at < _AGAIN_SECONDS:
                return
            if len(self._news) >= MOST_ASKERS and key not in self._news:
                self._news.pop(next(iter(self._news)))
            self._news[key] = asker
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """Write what there is, until nothing is left."""
        try:
            while self._news:
                await asyncio.sleep(_WRITE_SECONDS)
                await run_in_threadpool(self._write_now)
        except DATABASE_ERRORS as error:
            # They ask again, and it is tried again then.
            log_once(
                logger,
                logging.WARNING,
                f"Who asks for rules can't be told to other processes: {reason_of(error)}.",
                cause="askers",
            )
        finally:
            self._writing = None

    def _write_now(self) -> None:
        with self._lock:
            news = dict(self._news)
        self._stored.keep(news, max(asker.asked_at for asker in news.values()))
        with self._lock:
            for key, asker in news.items():
                if self._news.get(key) is asker:
                    del self._news[key]
                self._written[key] = asker
                self._written.move_to_end(key)
            while len(self._written) > MOST_ASKERS:
                self._written.popitem(last=False)

    def of(self, project_id: str, now: float) -> dict[str, Asker]:
        """Return a project's installations that ask for rules at `now` (Unix seconds), by install id."""
        found = self._stored.of(project_id, now)
        with self._lock:
            news = list(self._news.items())
        here = {install: asker for (project, install), asker in news if project == project_id}
        return {**found, **{install: asker for install, asker in here.items() if asker.there_until >= now}}

    def enforcement(self, project_id: str, now: float) -> Enforcement:
        """Count them."""
        found = self.of(project_id, now).values()
        return Enforcement(len(found), max((asker.ttl for asker in found), default=0))
