"""Who looks at the dashboard: the password, a signed cookie, and the token that a form of the same visitor carries."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import Protocol

SESSION_SECONDS = 12 * 3600
"""How long a login holds, at every process of the database, and after a restart."""


MIN_LENGTH = 8
"""Characters that a password has at least."""

_MAX_LENGTH = 1024

# The same everywhere, so that processes with one password take each other's cookies. Nothing made of it is stored.
_SALT = b"opentelemetry-guard dashboard"


class Password:
    """A password that can be compared with, and not be read back: a salted, slow hash of it."""

    def __init__(self, text: str) -> None:
        """Take the password.

        Raises:
            ValueError: it is too short; the text does not repeat it.
        """
        if len(text) < MIN_LENGTH:
            raise ValueError(
                f"The dashboard password has {len(text)} characters: give it at least {MIN_LENGTH} "
                "(--password or OTEL_GUARD_BACKEND_PASSWORD)."
            )
        self._hash = _hashed(text)

    def matches(self, offered: str) -> bool:
        """Whether `offered` is the password; takes some 50 ms of a processor either way."""
        return hmac.compare_digest(self._hash, _hashed(offered))

    def signing_key(self, key: bytes) -> bytes:
        """Return what signs where the database has `key`: who reads that alone can sign nothing.

        Another password signs otherwise, so that changing it ends every login.
        """
        return hmac.new(key, self._hash, hashlib.sha256).digest()


def _hashed(text: str) -> bytes:
    plain = text[:_MAX_LENGTH].encode("utf-8", "surrogatepass")
    return hashlib.scrypt(plain, salt=_SALT, n=2**14, r=8, p=1, dklen=32)


@dataclass(frozen=True, slots=True)
class Session:
    """A visitor: an unguessable `id`, whether they signed in, and until when (Unix seconds).

    `viewer` is the number of the viewer's key that they signed in with; 0 where it was the password.
    """

    id: str
    signed_in: bool
    expires_at: int
    viewer: int = 0


class EndedSessions(Protocol):
    """Who knows which sessions were ended."""

    def end(self, session_id: str, expires_at: float) -> None:
        """Note that a session holds no longer; its cookie would until `expires_at` (Unix seconds)."""

    def is_ended(self, session_id: str) -> bool:
        """Whether a session holds no longer."""


class Sessions:
    """Makes and reads session cookies; the state is in the cookie, and what it says is signed."""

    def __init__(self, key: bytes, ended: EndedSessions) -> None:
        """Sign with `key`, and believe no cookie of a session that `ended` knows."""
        self._key, self._ended = key, ended

    def start(self, signed_in: bool, viewer: int = 0) -> Session:
        """Return a new session."""
        return Session(secrets.token_urlsafe(18), signed_in, int(time.time()) + SESSION_SECONDS, viewer)

    def end(self, session: Session) -> None:
        """Let a login hold no longer, whoever has a copy of its cookie."""
        if session.signed_in:
            self._ended.end(session.id, session.expires_at)

    def cookie(self, session: Session) -> str:
        """Return the session as the value of a cookie."""
        stated = f"{session.id}.{int(session.signed_in)}.{session.expires_at}.{session.viewer}"
        return f"{stated}.{self._sign('session', stated)}"

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None when it is not ours, was changed, or is over."""
        stated, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(self._sign("session", stated).encode(), signature.encode("utf-8", "replace")):
            return None
        identity, signed_in, expires_at, viewer = stated.split(".")
        session = Session(identity, signed_in == "1", int(expires_at), int(viewer))
        if session.expires_at <= time.time():
            return None
        # Only a login can be ended, so that whoever is not signed in costs no look into the database.
        return None if session.signed_in and self._ended.is_ended(session.id) else session

    def form_token(self, session: Session) -> str:
        """Return what a form of this visitor has to carry: another site can't read it, so can't send it."""
        return self._sign("form", session.id)

    def is_form_token(self, session: Session, token: str) -> bool:
        """Whether `token` is this visitor's."""
        return hmac.compare_digest(self.form_token(session).encode(), token.encode("utf-8", "replace"))

    def _sign(self, purpose: str, text: str) -> str:
        message = f"{purpose}:{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()
