"""Who may look at the dashboard, and change the rules with it.

Without a password everybody who reaches the backend may: it listens on
loopback then. With one, a visitor signs in, and is known by a cookie. Who has
a viewer's key instead of the password sees its project alone and changes
nothing. Either way a form is taken only from the page that the backend itself
has shown.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from ...decision.addresses import subscriber
from ..ingest.rate import RateLimiter
from ..refusal import Refusal
from ..storage.database import Database
from ..storage.keys import KEY_BEGINNING, VIEWER, StoredKeys
from ..storage.rates import StoredBuckets
from ..storage.sessions import StoredSessions
from .sessions import SESSION_SECONDS, Password, Session, Sessions

FORM_TOKEN = "form_token"  # noqa: S105 - a field's name
"""The field that a form carries its token in."""

TRIES_PER_MINUTE = 5
"""Passwords that one address, or one IPv6 network of 64 bits, may try in a minute."""

LATE_TRY_SECONDS = 0.5
"""The pause between tries beyond these, of all such addresses and all processes together: two guesses a second."""

MOST_LATE = 10
"""Such tries that wait for their turn in one process; more are refused unseen, until there is room."""

_CHECKS = 2
"""Passwords that are hashed at once."""

_MAX_FORM_BYTES = 512 * 1024
_MAX_FIELDS = 100

_SESSION = "opentelemetry_guard.session"
"""Where in an ASGI scope the visitor's session is, once it was looked up."""

_PORT = re.compile(r":([0-9]{1,5})\Z")


class SignInNeeded(Exception):
    """The page is for visitors who have signed in; `location` is where they can."""

    def __init__(self, location: str) -> None:
        """Send the visitor to `location`."""
        super().__init__("Sign in first.")
        self.location = location


class Visitors:
    """Tells visitors apart, and lets in those who know the password."""

    def __init__(self, password: Password | None, database: Database) -> None:
        """Ask for `password`; None lets everybody in. Viewers have a key of `database`, which knows the sessions."""
        self._password, self._keys = password, StoredKeys(database)
        stored = StoredSessions(database)
        key = stored.signing_key()
        self._sessions = Sessions(key if password is None else password.signing_key(key), stored)
        self._buckets = StoredBuckets(database)
        self._tries = RateLimiter(self._buckets.draw, "tries")
        # Used on the event loop alone: hashing takes a processor and 16 MiB, which senders want too.
        self._checks = asyncio.Semaphore(_CHECKS)
        self._one_late_try = asyncio.Lock()
        self._late = 0

    @property
    def sign_in(self) -> bool:
        """Whether visitors have to sign in."""
        return self._password is not None

    def session(self, request: HTTPConnection) -> Session:
        """Return the visitor's session; a new one when there is none."""
        return self._known(request) or self._sessions.start(signed_in=False)

    def knows(self, request: HTTPConnection) -> bool:
        """Whether the visitor has a session that still holds."""
        return self._known(request) is not None

    def may_see(self, request: HTTPConnection) -> bool:
        """Whether the visitor may see what is stored."""
        session = self._known(request)
        return self._password is None or (session is not None and session.signed_in)

    def viewed(self, request: HTTPConnection) -> str | None:
        """Return the only project that the visitor sees, "" for none; None for who sees all of them, and may change."""
        if self._password is None:
            return None
        session = self._known(request)
        if session is None or not session.signed_in:
            return ""
        # Asked for anew at each request: a revoked key shows nothing.
        return (self._project_of(session.viewer) or "") if session.viewer else None

    def required_for_data(self, request: Request) -> None:
        """Refuse with 401 or 403 who may not see all that is stored; a dependency of routes that programs ask."""
        if not self.may_see(request):
            raise Refusal(401, "Sign in first: this backend has a dashboard password.")
        if self.viewed(request) is not None:
            raise Refusal(
                403, "A viewer's key shows the pages of its project alone; /local/feed takes it as X-API-Key."
            )

    def required_for_page(self, request: Request) -> None:
        """Send who may not see what is stored to the page that asks for the password.

        Raises:
            SignInNeeded: the visitor is to go there.
        """
        if not self.may_see(request):
            asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            raise SignInNeeded(f"/login?next={quote(asked, safe='')}" if request.method == "GET" else "/login")

    def form_token(self, session: Session) -> str:
        """Return the token for forms of this session."""
        return self._sessions.form_token(session)

    def set_cookie(self, request: HTTPConnection, response: Response, session: Session) -> None:
        """Make the browser keep `session`."""
        response.set_cookie(
            _cookie_name(request),
            self._sessions.cookie(session),
            max_age=SESSION_SECONDS,
            httponly=True,
            # Strict would sign out whoever follows a link to a page of ours; forms have their token besides.
            samesite="lax",
            # A proxy's word is enough here: it concerns nobody but the browser that gets the cookie.
            secure="https" in (request.url.scheme, request.headers.get("x-forwarded-proto")),
        )

    def sign_out(self, request: HTTPConnection, response: Response) -> None:
        """End the visitor's session, and make the browser forget it."""
        session = self._known(request)
        if session is not None:
            self._sessions.end(session)
        response.delete_cookie(_cookie_name(request), httponly=True, samesite="lax")

    async def try_password(self, request: HTTPConnection, offered: str) -> Session:
        """Return a signed-in session for the password.

        An address that has used its tries up is not shut out, since the owner
        may be behind the same proxy as who guesses: what comes from it is
        checked one at a time, with a pause between them.

        Raises:
            Refusal: 401 for a wrong password; 429 after too many of them, or where too many wait to be checked.
        """
        address = request.client.host if request.client else ""
        # Nothing is counted for all addresses together: whoever guesses from many would lock the owner out.
        wait = await self._tries.wait(subscriber(address), TRIES_PER_MINUTE)
        if not wait:
            if session := await self._opened(offered):
                return session
            raise Refusal(401, "This is not the password, nor a viewer's key that is valid.")
        if self._late < MOST_LATE:
            self._late += 1
            try:
                async with self._one_late_try:
                    await self._turn()
                    if session := await self._opened(offered):
                        return session
            finally:
                self._late -= 1
        else:
            # Whoever tries again at once would take every place that gets free.
            await asyncio.sleep(LATE_TRY_SECONDS)
        raise Refusal(429, f"Too many tries: wait {wait} seconds.", {"Retry-After": str(wait)})

    async def _turn(self) -> None:
        """Wait until no process has checked a late try for a while."""
        while not (drawn := await run_in_threadpool(self._buckets.draw, "late tries", 60 / LATE_TRY_SECONDS, 1)).tokens:
            await asyncio.sleep(drawn.wait)

    async def _opened(self, offered: str) -> Session | None:
        """Return the session that a password or a viewer's key opens."""
        if offered.startswith(KEY_BEGINNING):
            grant = await run_in_threadpool(self._keys.grant, offered)
            if grant is not None and grant.role == VIEWER and grant.key_id:
                return self._sessions.start(signed_in=True, viewer=grant.key_id)
        async with self._checks:
            if self._password is None or await run_in_threadpool(self._password.matches, offered):
                return self._sessions.start(signed_in=True)
        return None

    async def form(self, request: Request, *, of_viewers: bool = False) -> Mapping[str, str]:
        """Read a form that this backend's own page sends; a viewer's only where it is one `of_viewers`.

        Raises:
            Refusal: 403 when it comes from elsewhere, or from a viewer; 413 or 422 when it is no form of ours.
        """
        _check_origin(request)
        fields = await _fields(request)
        session = await run_in_threadpool(self._known, request)
        if session is None or not self._sessions.is_form_token(session, fields.get(FORM_TOKEN, "")):
            raise Refusal(403, "This form is not valid any more: load the page again, and send it once more.")
        if not of_viewers and await run_in_threadpool(self.viewed, request) is not None:
            raise Refusal(403, "You look with a viewer's key: it may see everything here, and change nothing.")
        return fields

    def _known(self, request: HTTPConnection) -> Session | None:
        """Return the session that the visitor has; looked up once for a request, which asks for it several times."""
        if _SESSION not in request.scope:
            cookie = request.cookies.get(_cookie_name(request))
            session = self._sessions.read(cookie) if cookie else None
            if session is not None and session.viewer and self._project_of(session.viewer) is None:
                session = None
            request.scope[_SESSION] = session
        known: Session | None = request.scope[_SESSION]
        return known

    def _project_of(self, viewer: int) -> str | None:
        return self._keys.viewed(viewer)


def _cookie_name(request: HTTPConnection) -> str:
    """Name the cookie by the port: browsers send a host's cookies to all its ports, and each may be a backend.

    It is the port that the browser knows, which is the same at all backends behind one address.
    """
    port = _PORT.search(request.headers.get("host", ""))
    return f"guard_session_{port[1]}" if port else "guard_session"


def _check_origin(request: Request) -> None:
    """Refuse a form whose browser says that another site sends it; the token alone would do, this is a second lock."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    foreign = site not in (None, "same-origin", "none")
    # Compared as text: an origin is a scheme and what the browser sends as Host (RFC 6454, section 6.2).
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        foreign = True
    if foreign:
        raise Refusal(403, "This form comes from another site.")


async def _fields(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Refusal(415, "A form must be sent as application/x-www-form-urlencoded.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            raise Refusal(413, f"The form is larger than {_MAX_FORM_BYTES} bytes.")
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise Refusal(422, "The form cannot be read.") from None
    return {name: values[-1].replace("\r\n", "\n") for name, values in fields.items()}
