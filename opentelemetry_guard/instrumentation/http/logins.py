"""Logins: which requests are one, which have failed, and what the application itself says of them.

`LoginJudge` is the one definition, which the events of single answers and the analysis of behaviour share; its data is
`settings.login_rules`. A 401 without a login says that somebody has to log in, and is no failure of one: it is counted
(`Refusals`), and told with the next failure of that client.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ...decision.addresses import subscriber
from ...emit import emit_event
from ...events.jsonsafe import safe_text
from ...settings.instrumentation import DEFAULT_IPV6_PREFIX
from ...settings.login_rules import Logins
from ...settings.once import log_once
from ..behavior.keys import has_own_part
from . import following as request_following
from .answers import NO_CREDENTIALS, AnsweredRequest
from .following import ReportedLogin, Scope

_logger = logging.getLogger(__name__)

FAILED_LOGIN = "authentication_failed"
"""The type of the event about a failed login."""

BASIC = "basic"
"""The scheme whose credentials are a password."""

LONGEST_USER = 256
"""Characters of a user's name that are kept."""

_LONGEST_NAME = 256
_CREDENTIALS = (b"authorization", b"x-api-key")
_IN_QUERY = re.compile(rb"(?:^|&)(?:api|access|auth)[_-]?(?:key|token)=([^&]+)", re.IGNORECASE)
"""API keys and tokens (RFC 6750, 2.3) as URLs carry them."""


class Login(NamedTuple):
    """What a request says of logins: whether its name or the application says that it is one, and whether it failed."""

    is_login: bool
    failed: bool


_NONE = Login(False, False)
_FAILED = Login(True, True)
_WENT_WELL = Login(True, False)


class LoginJudge:
    """Applies `Logins`; None knows what the application reports, and nothing else."""

    def __init__(self, rules: Logins | None) -> None:
        self._rules = rules
        # Names are a route's, or what clients like, so that they are remembered up to a bound.
        self._is_name = functools.lru_cache(maxsize=1024)(rules.is_name) if rules else None

    def judge(self, answered: AnsweredRequest) -> Login:
        """Return what an answered request says of logins. What the application reports wins."""
        if answered.login is not None:
            return Login(True, not answered.login)
        rules = self._rules
        status = answered.status_code
        if rules is None or (status >= 400 and status not in rules.statuses):
            return _NONE
        if self.is_login(answered.method, answered.route, answered.path):
            return _FAILED if status >= 400 else _WENT_WELL
        if status < 400:
            return _NONE
        # The first round of Basic has no credentials, and the password of every other one was wrong.
        return Login(False, status == 401 and answered.credentials[0] == BASIC)

    def is_login(self, method: str, route: str | None, path: str) -> bool:
        """Whether a request's method and name say that it is a login."""
        if self._rules is None or self._is_name is None or method not in self._rules.methods:
            return False
        about = route if route and has_own_part(route) else path
        return self._is_name(about[-_LONGEST_NAME:])


class Refusals:
    """The 401s of each client that are no failed login, in bounded memory; thread-safe."""

    def __init__(self, rules: Logins, ipv6_prefix: int = DEFAULT_IPV6_PREFIX) -> None:
        self._rules = rules
        self._ipv6_prefix = ipv6_prefix
        # The lock guards the dictionary and what is in it, and is held for a few look-ups.
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, _Refused] = OrderedDict()

    def pass_by(self, address: str) -> None:
        """Count an answer that is no error; of clients that have had no 401 lately nothing is counted."""
        if not self._seen:
            return
        client = subscriber(address, self._ipv6_prefix)
        if client in self._seen:
            with self._lock:
                if (refused := self._seen.get(client)) is not None:
                    refused.passed += 1

    def guesses(self, answered: AnsweredRequest, now: float) -> bool:
        """Count a 401, and tell whether the client has tried so many credentials that they are guesses."""
        rules = self._rules
        client = subscriber(answered.address, self._ipv6_prefix)
        with self._lock:
            refused = self._seen.pop(client, None)
            if refused is None or now - refused.began > rules.seconds:
                refused = _Refused(now, 0 if refused is None else refused.number)
            self._seen[client] = refused
            if len(self._seen) > rules.clients:
                self._seen.popitem(last=False)
            refused.tries += 1
            known = answered.credentials[1]
            is_other = known != 0 and known not in refused.credentials
            is_guess = is_other and len(refused.credentials) + 1 >= rules.guesses
            if is_guess and refused.tries >= rules.share * (refused.tries + refused.passed):
                return True
            if is_other and not is_guess:
                refused.credentials.add(known)
            refused.number += 1
            return False

    def folded(self, address: str) -> int:
        """Return how many 401s of a client were counted and not told, and count from zero again."""
        if not self._seen:
            return 0
        with self._lock:
            refused = self._seen.get(subscriber(address, self._ipv6_prefix))
            if refused is None:
                return 0
            number, refused.number = refused.number, 0
            return number


@dataclass(slots=True)
class _Refused:
    """The 401s of a client that were not told; and since it `began`, all of them, the answers that were no error, and
    hashes of the different credentials, fewer than make guesses.
    """

    began: float
    number: int = 0
    tries: int = 0
    passed: int = 0
    credentials: set[int] = field(default_factory=set)


def credentials(scope: Scope) -> tuple[str, int]:
    """Return the scheme of a request's credentials, in lower case, and their hash; or `NO_CREDENTIALS`."""
    for name, value in scope.get("headers") or ():
        if name in _CREDENTIALS and value.strip():
            scheme = value.partition(b" ")[0] if name == b"authorization" else b"key"
            return str(scheme[:32], "latin-1").lower(), zlib.crc32(value) or 1
    in_query = _IN_QUERY.search(scope.get("query_string") or b"")
    return NO_CREDENTIALS if in_query is None else ("key", zlib.crc32(in_query[1]) or 1)


def report_login(*, success: bool, user: str | None = None, address: str | None = None) -> None:
    """Tell how a login has ended, where its answer doesn't, or doesn't say whose it was.

    Within a request, an endpoint says it of this request; its answer's status is then not asked for. A failure makes
    the request's one `authentication_failed` event, and `user` is whom the analysis of behaviour counts, so that
    attempts on one account from many addresses, and on many accounts from one, are found. The last word of a request
    wins. Outside of a request (a worker, a socket of one's own) the event is made at once.

    Args:
        success: whether the user is who it claims to be. A text is neither, and refused with an error in the log:
            "false" would read as true.
        user: the account that was tried, as the application names accounts; what is no text is written as one.
        address: the client's; within a request only where the application knows better than the server.

    It never raises and never waits. Without an instrumentation a failure makes an event, and nothing is analysed.

    Example::

        @app.post("/enter")
        async def enter(form: Form) -> dict[str, bool]:
            known = await check(form.name, form.password)
            report_login(success=known, user=form.name)
            return {"ok": known}

    .. versionadded:: 1.0
    """
    if isinstance(success, (str, bytes)):
        log_once(
            _logger,
            logging.ERROR,
            f"report_login(success={success[:20]!r}) is ignored: success must be True or False",
            cause="the success of a reported login",
        )
        return
    said = ReportedLogin(bool(success), _written("user", user), _written("address", address))
    request = request_following.current()
    if request is not None and request.status_code is None:
        request.login = said
    elif _receiver is not None:
        _receiver(said if request is None else said._replace(address=address or _peer(request.scope)))
    elif not said.success:
        emit_event(told(said))


def _written(argument: str, value: object) -> str | None:
    """Return an argument of `report_login` as text, None where there is none in it."""
    if value is None:
        return None
    try:
        text = value.decode(errors="replace") if isinstance(value, bytes) else safe_text(str(value))
    except Exception as error:  # noqa: BLE001  a stranger's __str__ may raise anything
        what = f"the {argument} of report_login is a {type(value).__name__} that can't be written as text"
        log_once(_logger, logging.ERROR, f"{what} ({type(error).__name__}); pass a name", cause=what)
        return None
    return text[:LONGEST_USER] or None


def told(login: ReportedLogin) -> dict[str, object]:
    """Return the fields of the event about a login that has failed outside of a request."""
    return {
        "event_type": FAILED_LOGIN,
        "ip_address": login.address or "",
        "action_taken": "logged",
        "reason": "authentication failed",
        "rule_type": "logins",
        "metadata": {"rule": "logins", **({} if login.user is None else {"user": login.user})},
    }


Receiver = Callable[[ReportedLogin], None]

_receiver: Receiver | None = None


def receive(receiver: Receiver | None) -> None:
    """Have `receiver` called with what is reported outside of requests; None for nobody."""
    global _receiver
    _receiver = receiver


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
