"""What is known of an answered request, and what it is found to mean: the words that the files of this room share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

NO_CREDENTIALS = ("", 0)
"""The credentials of a request that was not refused for them."""


class AnsweredRequest(NamedTuple):
    """What is known of a request when its answer begins.

    Attributes:
        address: the client's address, behind trusted proxies the one that they name; "" where it is unknown.
        user: the user id that the application set (``enduser.id`` on the server span), None where there is none.
        method: as sent.
        path: as sent, without the query.
        route: the template of the route that answers, None where there is none.
        status_code: of the answer.
        duration: seconds until the answer began.
        user_agent: as sent, "" where there is none.
        reported: whether the request has produced a security event already, so that its status derives none.
        raw_path: the path as it was encoded on the wire, "" where the server doesn't tell.
        login: whether a login has succeeded, as the application says; None where it says nothing.
        credentials: the scheme, in lower case, and a hash of the credentials that a 401 or 403 has refused.
        query: as it was encoded on the wire.
        headers: names in lower case and values, as sent.
        body: what kind of body it has ("json" or "form") and the beginning of it, None where nobody has noted it.
        crawler: whether the client is known to be the search engine that it says it is (`crawlers`).
    """

    address: str
    user: str | None
    method: str
    path: str
    route: str | None
    status_code: int
    duration: float
    user_agent: str = ""
    reported: bool = False
    raw_path: str = ""
    login: bool | None = None
    credentials: tuple[str, int] = NO_CREDENTIALS
    query: bytes = b""
    headers: Iterable[tuple[bytes, bytes]] = ()
    body: tuple[str, bytes] | None = None
    crawler: bool = False


class PassedRequest(NamedTuple):
    """What is counted of a request that was answered with less than 400 and is no login, as nearly all are.

    Attributes:
        address: as in `AnsweredRequest`.
        user: as there.
        agent: the fingerprint of the user agent.
        status_code: of the answer.
        route: as in `AnsweredRequest`.
        path: as there.
    """

    address: str
    user: str | None
    agent: int
    status_code: int
    route: str | None
    path: str


Telling: TypeAlias = "Callable[[AnsweredRequest], Sequence[Mapping[str, object]]]"
"""Returns the fields of the events that a request makes, given all that is known of it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one request, or the latest of a burst, means.

    Attributes:
        event_type: of the contract.
        rule: the key of the rule in `http_rules`.
        reason: for a reader.
        evidence: what the rule matched; nothing that quotes more of the request than its path and user agent.
        pattern: the id of the signature that matched, None for other rules.
    """

    event_type: str
    rule: str
    reason: str
    evidence: Mapping[str, object]
    pattern: str | None = None
