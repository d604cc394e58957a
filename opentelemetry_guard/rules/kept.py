"""The rules that were last known, kept in a private file so that a restart during an outage begins with them."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from uuid import uuid4

import orjson

from ..queue.base import QueueUnavailable
from ..queue.sqlite.private_file import prepare_directory, restrict_files

_logger = logging.getLogger(__name__)

MAX_BYTES = 64 * 1024 * 1024
"""Bytes beyond which a file is none of ours."""


@dataclass(frozen=True, slots=True)
class KeptRules:
    """A rules document as the backend sent it, with the ``ETag`` that came with it."""

    document: bytes
    etag: str | None


def write_rules(directory: Path | None, destination: str, kept: KeptRules) -> None:
    """Keep the rules of `destination` (a hash) in `directory`, whole or not at all; it never raises.

    Args:
        directory: the private state directory, None where there is none.
        destination: whose rules they are.
        kept: the rules.
    """
    if directory is None:
        return
    draft = directory / f"{_name(destination)}.{uuid4().hex}"
    try:
        prepare_directory(directory, private=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps({"etag": kept.etag, "document": orjson.Fragment(kept.document)}))
            os.replace(draft, directory / _name(destination))
        finally:
            draft.unlink(missing_ok=True)
    except (OSError, QueueUnavailable) as error:
        _logger.debug("the dynamic rules can't be kept for the next start: %s", error)


def read_rules(directory: Path | None, destination: str) -> KeptRules | None:
    """Return the rules that were kept for `destination`; None where there are none that can be trusted."""
    if directory is None:
        return None
    path = directory / _name(destination)
    try:
        if not path.exists():
            return None
        prepare_directory(directory, private=True)
        restrict_files([path])
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as file:
            found = orjson.loads(file.read(MAX_BYTES))
        etag = found["etag"]
        return KeptRules(orjson.dumps(found["document"]), cast("str | None", etag) if isinstance(etag, str) else None)
    except (OSError, ValueError, KeyError, TypeError, QueueUnavailable) as error:
        _logger.warning("the dynamic rules of the last run can't be read, going on without them: %s", error)
        return None


def _name(destination: str) -> str:
    return f"rules-{destination}.json"
