"""What is a login, and when has one failed: data of the rule `logins`, for single answers and for behaviour alike.

Who applies them: `opentelemetry_guard.instrumentation.http.logins`.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import values
from .rules import entries, rule

WORDS = ("login", "logon", "log-in", "log_in", "signin", "sign-in", "sign_in", "authenticate")
"""What is in the name of a login, whatever else is."""

NAMES = ("auth", "password", "session", "sessions", "token")
"""What is the whole name of a login; longer names that have it are mostly of something else, like ``push-token``."""


def _word(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("words must be text that isn't empty, like 'login'")
    return value.lower()


def _method(value: object) -> str:
    if not isinstance(value, str) or not value.isalpha():
        raise ValueError("a method must be letters, like 'POST'")
    return value.upper()


@dataclass(frozen=True, slots=True)
class Logins:
    """A login is a request with one of `methods` to a route, or where none matches a path, of that name.

    The name is the last segment that is no parameter.

    Attributes:
        words: what is in such a name, in lower case.
        names: what is the whole of such a name, in lower case.
        methods: of a login.
        statuses: of the answers that say that a login has failed.
        guesses: a client's different credentials of other kinds than a password (bearer tokens, API keys) that 401
            answers have refused, from which on each further one is a failure: one that expires is nothing.
        share: of 401 answers among those of the client, below which nothing is a guess: many may be behind one address.
        seconds: the window in which they have to lie.
        clients: how many clients are remembered for that.
    """

    words: tuple[str, ...] = entries(WORDS, _word)
    names: tuple[str, ...] = entries(NAMES, _word)
    methods: tuple[str, ...] = entries(("POST",), _method)
    statuses: tuple[int, ...] = entries((400, 401, 403, 422), values.whole(400, 499))
    guesses: int = rule(10, values.whole(1, 64))
    share: float = rule(0.5, values.number(0, 1))
    seconds: float = rule(300.0, values.number(1, 86_400))
    clients: int = rule(4096, values.whole(1, 1_000_000))

    def is_name(self, about: str) -> bool:
        """Whether a route or a path is named like a login."""
        segments = [segment for segment in about.lower().split("/") if segment and not segment.startswith("{")]
        name = segments[-1] if segments else ""
        return name in self.names or any(map(name.__contains__, self.words))
