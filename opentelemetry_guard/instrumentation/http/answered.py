"""One answered request, as those see it who judge it: `http_rules` by itself, `behavior` in the run of its client's."""

from __future__ import annotations

from typing import NamedTuple


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
