"""API keys: which project does a key belong to?"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping


def generate_key() -> str:
    """Return a new API key of 256 random bits that is safe in URLs and shells."""
    return "guard_" + secrets.token_urlsafe(32)


class ApiKeys:
    """The keys that a backend accepts. Each belongs to one project, and only its SHA-256 is kept."""

    def __init__(self, projects: Mapping[str, str]) -> None:
        """Take the project id of each key.

        Raises:
            ValueError: a key or a project id is empty.
        """
        if "" in projects:
            raise ValueError("An API key is empty: give it at least one character.")
        if "" in projects.values():
            raise ValueError("A project id is empty: give it at least one character.")
        self._projects = {_digest(key): project for key, project in projects.items()}

    def project_of(self, key: str) -> str | None:
        """Return the project of `key`, None for an unknown key, in a time that doesn't depend on how close it is."""
        offered = _digest(key)
        found = None
        for known, project in self._projects.items():
            if hmac.compare_digest(known, offered):
                found = project
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
