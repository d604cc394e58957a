"""What an error of a Redis client means to a person: who refuses what, and what to do. Nothing is opened here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .url import RedisAddress

Cause = Literal["credentials", "permissions", "tls", "outage"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why Redis can't be used.

    `what` says who refuses what, and `remedy` what to do. An outage passes
    by itself; its `remedy`, if any, is for a Redis that was never reached.
    Neither holds a secret.
    """

    cause: Cause
    what: str = ""
    remedy: str = ""

    @property
    def refused(self) -> bool:
        """Whether no retry mends it."""
        return self.cause != "outage"


OUTAGE = Trouble("outage")
GRANTS = "~{guard:* +@read +@write +@scripting +time +ping +select"
"""What a user's rules (ACL) must have for the queue; a cluster's two more."""

_PERMISSION_WORDS = ("NOPERM", "no permissions", "can't run this command", "can't access at least one of the keys")
# "unauthenticated multibulk length" and the like: to a stranger Redis answers a large call with a protocol error
_CREDENTIAL_WORDS = (
    "NOAUTH",
    "WRONGPASS",
    "Authentication required",
    "AuthenticationError",
    "invalid username-password",
    "invalid password",
    "without any password",
    "no password is set",
    "unauthenticated",
)


def trouble_of(error: BaseException, address: RedisAddress) -> Trouble:
    """Return what an error means for the queue URL's settings."""
    texts = [f"{' '.join(kind.__name__ for kind in type(link).__mro__)}: {link}" for link in _chain(error)]
    text = "\n".join(texts)
    by_sentinel = address.topology == "sentinel" and ("MasterNotFoundError" in text or "'sentinel" in text)
    if any(word in text for word in ("AuthorizationError", "NoPermissionError", *_PERMISSION_WORDS)):
        return _permissions(by_sentinel, address)
    if any(word in text for word in _CREDENTIAL_WORDS):
        return _credentials(by_sentinel, address, "without any password" in text or "no password is set" in text)
    if "SSL" in text or "certificate" in text:
        return _tls(text, address)
    if "Cluster mode is not enabled" in text:
        return Trouble("outage", remedy="if it is no cluster, begin the queue URL with redis:// or rediss://")
    if "MasterNotFoundError" in text and len(texts) == 1:
        return Trouble("outage", remedy=f"check that the sentinels know a master by the name {address.service!r}")
    if address.tls is None and ("Connection closed by server" in text or "reset by peer" in text):
        return Trouble("outage", remedy=f"if its port speaks TLS, {_with_tls(address)}")
    if address.tls is not None and "Timeout" in text:
        return Trouble("outage", remedy=f"if its port speaks no TLS, {_without_tls(address)}")
    return OUTAGE


def _permissions(by_sentinel: bool, address: RedisAddress) -> Trouble:
    if by_sentinel:
        what = "the sentinels refuse commands to sentinel_username of the queue URL"
        return Trouble("permissions", what, "grant that user +sentinel and +ping")
    more = " +cluster +command" if address.topology == "cluster" else ""
    what = "refuses commands or keys to the user of the queue URL"
    return Trouble("permissions", what, f"grant that user {GRANTS}{more}")


def _credentials(by_sentinel: bool, address: RedisAddress, needless: bool) -> Trouble:
    if by_sentinel:
        if needless:
            what, remedy = "the sentinels have no password", "take sentinel_password out of the queue URL"
        elif address.sentinel_password is None:
            what = "the sentinels want a password of their own"
            remedy = "add ?sentinel_password=... (and sentinel_username) to the queue URL"
        else:
            what = "the sentinels refuse sentinel_username or sentinel_password of the queue URL"
            remedy = "check sentinel_password; the password before the host is for Redis itself"
        return Trouble("credentials", what, remedy)
    if needless:
        remedy = "take them out of the queue URL, Redis has no password"
    elif address.password is None:
        remedy = "it has no password; write user:password@ before the host, or :password@ for the default user"
    else:
        remedy = "check user and password before the host"
    return Trouble("credentials", "refuses the user or password of the queue URL", remedy)


def _tls(text: str, address: RedisAddress) -> Trouble:
    if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text.lower():
        return Trouble("tls", "speaks no TLS on this port", _without_tls(address))
    if "mismatch" in text or "not valid for" in text:
        return Trouble("tls", "has a certificate for another host", "name the host that its certificate has")
    if "CERTIFICATE_REQUIRED" in text or "certificate required" in text:
        return Trouble("tls", "wants a client certificate", "set ssl_certfile and ssl_keyfile in the queue URL")
    if "CERTIFICATE_VERIFY_FAILED" in text:
        remedy = "set ssl_ca_certs in the queue URL to the PEM file of the authority that signed it"
        return Trouble("tls", "has a certificate that is not trusted", remedy)
    return Trouble("outage", remedy="check scheme, port and the ssl_... options of the queue URL")


def _with_tls(address: RedisAddress) -> str:
    return "begin the queue URL with rediss://" if address.topology == "single" else "add ?ssl=true to the queue URL"


def _without_tls(address: RedisAddress) -> str:
    return "begin the queue URL with redis://" if address.topology == "single" else "take ssl=true out of the queue URL"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it: a cluster client tells of a permission that it lacks in no other way."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
