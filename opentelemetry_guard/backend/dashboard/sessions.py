"""Who looks at the dashboard: the password, a signed cookie, and the token that a form of the same visitor carries."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from dataclasses import dataclass

SESSION_SECONDS = 12 * 3600
"""How long a login holds. The key that signs is made at the start: a restart ends every session."""


MIN_LENGTH = 8
"""Characters that a password has at least."""

_MAX_LENGTH = 1024


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
        self._salt = os.urandom(16)
        self._hash = self._hashed(text)

    def matches(self, offered: str) -> bool:
        """Whether `offered` is the password; takes some 50 ms of a processor either way."""
        return hmac.compare_digest(self._hash, self._hashed(offered))

    def _hashed(self, text: str) -> bytes:
        return hashlib.scrypt(
            text[:_MAX_LENGTH].encode("utf-8", "surrogatepass"), salt=self._salt, n=2**14, r=8, p=1, dklen=32
        )


@dataclass(frozen=True, slots=True)
class Session:
    """A visitor: an unguessable `id`, whether they signed in, and until when (Unix seconds).

    `viewer` is the number of the viewer's key that they signed in with; 0 where it was the password.
    """

    id: str
    signed_in: bool
    expires_at: int
    viewer: int = 0


class Sessions:
    """Makes and reads session cookies; the state is in the cookie, and what it says is signed."""

    def __init__(self) -> None:
        """Make a signing key that ends with the process."""
        self._key = secrets.token_bytes(32)
        # Ids of sessions that were ended, and until when their cookies would hold. Replaced as a whole, so that it can
        # be read without a lock; only who has signed in adds to it.
        self._ended: dict[str, int] = {}

    def start(self, signed_in: bool, viewer: int = 0) -> Session:
        """Return a new session."""
        return Session(secrets.token_urlsafe(18), signed_in, int(time.time()) + SESSION_SECONDS, viewer)

    def end(self, session: Session) -> None:
        """Let a login hold no longer, whoever has a copy of its cookie."""
        if session.signed_in:
            now = time.time()
            still = {identity: expires_at for identity, expires_at in self._ended.items() if expires_at > now}
            self._ended = {**still, session.id: session.expires_at}

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
        return session if session.expires_at > time.time() and session.id not in self._ended else None

    def form_token(self, session: Session) -> str:
        """Return what a form of this visitor has to carry: another site can't read it, so can't send it."""
        return self._sign("form", session.id)

    def is_form_token(self, session: Session, token: str) -> bool:
        """Whether `token` is this visitor's."""
        return hmac.compare_digest(self.form_token(session).encode(), token.encode("utf-8", "replace"))

    def _sign(self, purpose: str, text: str) -> str:
        message = f"{purpose}:{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()
