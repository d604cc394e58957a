"""Who asks for rules: the installations that enforce them, as far as a backend can know.

An ETag of the rules begins with their version, so that the next question of
an installation tells which version it has taken over. This is kept in memory:
after a restart everybody has asked again within the time of a poll.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass

MOST_ASKERS = 20_000
"""Installations that are known at most; the one that asked longest ago is forgotten first."""

MISSED = 3
"""Polls that may be missed before an installation counts as gone."""

LEAST_SECONDS = 90
"""Seconds for which it counts as there at least: applications ask every 30 seconds, where no rules say otherwise."""

_TAGGED = re.compile(r'"v(\d{1,9})-')


def etag(version: int, digest: str) -> str:
    """Return the ETag of rules: their version, and the `digest` of the document."""
    return f'"v{version}-{digest}"'


@dataclass(frozen=True, slots=True)
class Asker:
    """What an installation asked last: `asked_at` in Unix seconds, the version that it has (None: it named none)."""

    asked_at: float
    has: int | None
    ttl: int

    def is_there(self, now: float) -> bool:
        """Whether it has asked so recently that it still does."""
        return now - self.asked_at <= max(LEAST_SECONDS, MISSED * self.ttl)


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
    """The installations that asked for rules, by project and install id. Safe to use from any thread."""

    def __init__(self) -> None:
        """Know nobody yet."""
        self._lock = threading.Lock()  # guards `_known`
        self._known: OrderedDict[tuple[str, str], Asker] = OrderedDict()

    def note(self, project_id: str, install_id: str, if_none_match: str, ttl: int, now: float) -> None:
        """Note that an installation asks at `now` (Unix seconds), and may keep the answer for `ttl` seconds."""
        named = _TAGGED.search(if_none_match)
        asker = Asker(now, int(named[1]) if named else None, ttl)
        key = (project_id, install_id)
        with self._lock:
            self._known[key] = asker
            self._known.move_to_end(key)
            if len(self._known) > MOST_ASKERS:
                self._known.popitem(last=False)

    def of(self, project_id: str, now: float) -> dict[str, Asker]:
        """Return a project's installations that ask for rules at `now` (Unix seconds), by install id."""
        with self._lock:
            known = list(self._known.items())
        return {install: asker for (project, install), asker in known if project == project_id and asker.is_there(now)}

    def enforcement(self, project_id: str, now: float) -> Enforcement:
        """Count them."""
        found = self.of(project_id, now).values()
        return Enforcement(len(found), max((asker.ttl for asker in found), default=0))
