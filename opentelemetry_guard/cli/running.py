"""Where the backend of a database listens, for commands on the same machine that change what is in the database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..backend.askers import Enforcement

_SUFFIX = ".address"
_SECONDS = 3.0
"""How long an answer may take."""


@contextmanager
def noted(database: Path | None, url: str) -> Iterator[None]:
    """Keep a backend's address in a file beside its database while the block runs; one that can't be kept is not.

    A database that is no file (None) is another machine's as well: nothing is kept.
    """
    if database is None:
        yield
        return
    path = Path(f"{database}{_SUFFIX}")
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(url)
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_text() == url:  # else another backend of the database has come since
                path.unlink()


def enforcement_of(database: Path | None, project: str) -> Enforcement | None:
    """Ask the backend of a database who enforces a project's rules.

    None where no backend of it runs on this machine, or one that tells only who has its password.
    """
    if database is None:
        return None
    import requests  # here, since most commands need no request

    from ..backend.askers import Enforcement

    try:
        url = Path(f"{database}{_SUFFIX}").read_text()
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"{url}/local/enforcement", params={"project": project}, timeout=_SECONDS)
        told = answer.json()
        return Enforcement(int(told["asking"]), int(told["within"])) if answer.status_code == 200 else None
    except (OSError, ValueError, KeyError, TypeError):  # a request's errors are OSErrors; the file may be an old one
        return None
