"""The thread that keeps ban lists up to date: of all backends on one database, one fetches a list that is due."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping

from ..storage.ban_lists import DueList, StoredLists, shown_url
from .fetching import Fetched, NotFetched, Validators, fetch
from .reading import read_list

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0
"""Seconds between two looks at which lists are due; that is one small query."""

Fetch = Callable[[str, Mapping[str, str], Validators], Fetched | None]


def refresh(lists: StoredLists, get: Fetch = fetch) -> bool:
    """Fetch the list that is due longest; return whether there was one. What goes wrong is kept with the list."""
    due = lists.claim()
    if due is None:
        return False
    try:
        found = get(due.url, _headers(due), Validators(due.etag, due.last_modified))
        read = None if found is None else read_list(found.content)
    except (NotFetched, ValueError) as error:
        # Its last state stays in force.
        logger.warning("The ban list %s of %s can't be used: %s.", shown_url(due.url), due.project_id, error)
        lists.failed(due, str(error)[:300])
        return True
    if found is None or read is None:
        lists.unchanged(due)
    else:
        validators = found.validators
        lists.changed(due, read.entries, read.passed_over, validators.etag, validators.last_modified)
    return True


def _headers(due: DueList) -> dict[str, str]:
    """Return the headers of a question; their values are those of this process's variables.

    Raises:
        NotFetched: a variable is not set.
    """
    for variable in due.headers.values():
        if not os.environ.get(variable, "").strip():
            raise NotFetched(f"the variable {variable} is not set for the backend")
    return {name: os.environ[variable].strip() for name, variable in due.headers.items()}


class RefreshThread:
    """Refreshes lists until it is stopped."""

    def __init__(self, lists: StoredLists) -> None:
        """Start."""
        self._lists = lists
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="OtelGuardLists", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                while refresh(self._lists) and not self._stop.is_set():
                    pass
            except Exception as error:  # noqa: BLE001  any database's; the thread must outlive it
                logger.error("Ban lists can't be refreshed: %s. They are tried again.", error)
                self._stop.wait(60.0)
            self._stop.wait(_LOOK_SECONDS)

    def stop(self) -> None:
        """Have the thread end; a list that is being fetched is not waited for."""
        self._stop.set()
