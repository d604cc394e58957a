"""The rules that were last known, kept in a private file so that a restart during an outage begins with them."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import orjson

from ..decision.signing import Proof
from ..queue.base import QueueUnavailable
from ..queue.sqlite.private_file import prepare_directory, restrict_files

_logger = logging.getLogger(__name__)

MAX_BYTES = 64 * 1024 * 1024
"""Bytes beyond which a file is none of ours."""


@dataclass(frozen=True, slots=True)
class KeptRules:
    """A rules document as the backend sent it, with the ``ETag`` and the signature that came with it."""

    document: bytes
    etag: str | None
    proof: Proof | None = None


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
                # As text: what is signed is these bytes, and not what they mean.
                file.write(orjson.dumps({"etag": kept.etag, "document": kept.document.decode(), "proof": kept.proof}))
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
        document, etag, proof = found["document"], found["etag"], found.get("proof")
        return KeptRules(
            # Earlier releases have kept the object.
            document.encode() if isinstance(document, str) else orjson.dumps(document),
            etag if isinstance(etag, str) else None,
            None if proof is None else Proof(str(proof["context"]), str(proof["signature"])),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, QueueUnavailable) as error:
        _logger.warning("the dynamic rules of the last run can't be read, going on without them: %s", error)
        return None


def _name(destination: str) -> str:
    return f"rules-{destination}.json"
