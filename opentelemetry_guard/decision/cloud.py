"""Which cloud provider an address belongs to, by the lists of networks that fastapi-guard's core keeps.

guard-core fetches the providers' own lists. Where fastapi-guard runs in this
process, its lists are taken as they are; else a thread has guard-core fetch
them, once an hour while somebody asks. A request never waits for that.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Collection, Iterable
from importlib.util import find_spec
from typing import Any

from .addresses import AddressList
from .unenforced import Unenforced

_logger = logging.getLogger(__name__)

REFRESH_SECONDS = 3600.0
"""Seconds after which lists are looked at again."""
RETRY_SECONDS = 60.0
"""Seconds after which lists that could not be had are asked for again."""

_MODULE = "guard_core.handlers.cloud_handler"


class CloudProviders:
    """The providers that rules block.

    Attributes:
        problems: what keeps them from being blocked, in words.
    """

    __slots__ = ("_names", "problems")

    def __init__(self, names: Iterable[str]) -> None:
        """Take the names of providers, in either case, and see to it that their lists come."""
        self._names = tuple(dict.fromkeys(name.strip().lower() for name in names if name.strip()))
        self.problems: tuple[str, ...] = ()
        if self._names and not _is_installed():
            self._names = ()
            self.problems = (
                "blocked_cloud_providers has no effect: which networks a provider has is known by fastapi-guard, which "
                "isn't installed (extra 'fastapi-guard'); or list the networks in ip_blacklist",
            )
        elif self._names:
            _lists.take()
            _lists.keep_fresh(self._names, now=not all(name in _lists.by_name for name in self._names))

    def __bool__(self) -> bool:
        return bool(self._names)

    def find(self, number: int) -> str | None:
        """Return the provider, in lower case, that has the address at a place (`addresses.number_of`)."""
        _lists.keep_fresh(self._names)
        for name in self._names:
            networks = _lists.by_name.get(name)
            if networks is not None and networks.find(number) is not None:
                return name
        return None


class _Lists:
    """The providers' networks; `by_name` is replaced as a whole."""

    def __init__(self) -> None:
        self.by_name: dict[str, AddressList] = {}
        self._sources: dict[str, object] = {}
        self._next = float("-inf")
        self._working_in = 0  # the process whose thread fetches, 0 for none: a forked child has no such thread
        self._missing: Unenforced | None = None

    def keep_fresh(self, names: Collection[str], *, now: bool = False) -> None:
        """Have a thread look after the lists if it is time to, or `now`; it is never waited for."""
        if (time.monotonic() < self._next and not now) or self._working_in == os.getpid():
            return
        self._working_in = os.getpid()
        threading.Thread(target=self._refresh, args=(names,), name="OtelGuardCloud", daemon=True).start()

    def take(self) -> None:
        """Take over what guard-core has by now, if it is loaded at all."""
        manager = _manager_if_loaded()
        for provider, networks in dict(getattr(manager, "ip_ranges", {})).items():
            if networks and self._sources.get(provider) is not networks:
                listed = AddressList(str(network) for network in tuple(networks))
                self.by_name = {**self.by_name, provider.lower(): listed}
                self._sources[provider] = networks

    def _refresh(self, names: Collection[str]) -> None:
        # Imported here: it would double the time that importing the models takes.
        import asyncio

        missing: list[str] = []
        try:
            manager = importlib.import_module(_MODULE).cloud_handler
            known = {provider.lower(): provider for provider in manager.ip_ranges}
            wanted = {known[name] for name in names if name in known}
            # With Redis, fastapi-guard is at work here and fetches them itself.
            if wanted and manager.redis_handler is None and _are_old(manager, wanted):
                asyncio.run(manager.refresh_async(wanted))
            self.take()
            missing = [
                f"blocked_cloud_providers has {name!r}, "
                + (
                    "whose networks could not be fetched yet"
                    if name in known
                    else "which is no provider that fastapi-guard has a list of"
                )
                for name in names
                if name not in self.by_name
            ]
        except Exception as error:  # noqa: BLE001  another release, or whatever the fetching of others' lists raises
            missing = [f"blocked_cloud_providers has no effect: fastapi-guard's lists can't be used ({error!r:.200})"]
        finally:
            self._missing = Unenforced(_logger, missing)
            self._next = time.monotonic() + (RETRY_SECONDS if missing else REFRESH_SECONDS)
            self._working_in = 0


def _are_old(manager: Any, wanted: Collection[str]) -> bool:
    """Whether a list is missing, or was fetched longer ago than fastapi-guard itself leaves them."""
    if not all(manager.ip_ranges[provider] for provider in wanted):
        return True
    fetched = [getattr(manager, "last_updated", {}).get(provider) for provider in wanted]
    # Without a time, somebody else has put it there.
    return any(at is not None and time.time() - at.timestamp() >= REFRESH_SECONDS for at in fetched)


def _manager_if_loaded() -> Any:
    return getattr(sys.modules.get(_MODULE), "cloud_handler", None)


def _is_installed() -> bool:
    try:
        return find_spec("guard_core") is not None
    except (ImportError, ValueError):
        return False


_lists = _Lists()
