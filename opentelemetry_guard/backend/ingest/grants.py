"""Whose a request is: its API key, the project of the key, and how often it may be used."""

from __future__ import annotations

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from ...decision.addresses import subscriber
from ..refusal import Refusal
from ..settings import BackendSettings
from ..storage.keys import VIEWER, StoredKeys
from ..storage.rates import StoredBuckets
from ..storage.store import Store
from .rate import RateLimiter


class Grants:
    """Knows the keys of the settings and of the database. Used on the event loop."""

    def __init__(self, store: Store, settings: BackendSettings) -> None:
        """Know the keys of `settings`, and those in `store`."""
        self._settings = settings
        self._stored_keys = StoredKeys(store.database)
        # Of each their own, so that a flood of addresses makes no key's count forgotten.
        draw = StoredBuckets(store.database).draw
        self._addresses, self._keys, self._projects = (
            RateLimiter(draw, kind) for kind in ("address", "key", "project")
        )

    async def project_of(self, request: Request, *, bearer: bool = False, looking: bool = False) -> str:
        """Return the project that the request's key is for: 401, 403 or 429 when it is not to be used now.

        A viewer's key is good for requests that are `looking` alone. With `bearer` the key may come as
        ``Authorization: Bearer`` instead. The address is that of the connection: `X-Forwarded-For` is not read.
        """
        address = subscriber(request.client.host) if request.client else ""
        await _hold(self._addresses, address, self._settings.rate_of_address, "This address")
        key = request.headers.get("x-api-key")
        if not key and bearer:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            key = token.strip() if scheme.lower() == "bearer" else None
        if not key:
            raise Refusal(401, "X-API-Key is missing.")
        # A key of the database costs a look into the file, which is nothing for the event loop's thread.
        grant = self._settings.keys.grant(key) or await run_in_threadpool(self._stored_keys.grant, key)
        if grant is None:
            raise Refusal(401, "X-API-Key is not a key of this backend.")
        if request.headers.get("x-project-id", grant.project_id) != grant.project_id:
            raise wrong_project("X-Project-ID")
        if grant.role == VIEWER and not looking:
            raise Refusal(403, "This is a viewer's key: it shows the dashboard, and is not for sending or enforcing.")
        per_minute = self._settings.requests_per_minute if grant.per_minute is None else grant.per_minute
        await _hold(self._keys, grant.digest.hex(), per_minute, "This key")
        await _hold(self._projects, grant.project_id, self._settings.rate_of_project, "This project")
        return grant.project_id


async def _hold(limiter: RateLimiter, who: str, per_minute: int, called: str) -> None:
    if per_minute and (wait := await limiter.wait(who, per_minute)):
        detail = f"{called} may send {per_minute} requests a minute: wait {wait} s."
        raise Refusal(429, detail, {"Retry-After": str(wait)})


def wrong_project(name: str) -> Refusal:
    """Return the refusal of a request whose `name` is not the key's project."""
    return Refusal(403, f"{name} is not the project of this API key: configure the project that the key was made for.")
