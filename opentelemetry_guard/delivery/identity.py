"""Who this process is to a backend: the id that it tells its agents apart by."""

from __future__ import annotations

import logging
import os
from functools import cache
from pathlib import Path
from uuid import UUID, uuid4, uuid5

from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, OTELResourceDetector

from ..queue.base import QueueUnavailable
from ..queue.sqlite.path import default_queue_path
from ..queue.sqlite.private_file import prepare_directory

_logger = logging.getLogger(__name__)

FILE_NAME = "install-id"


def state_directory() -> Path | None:
    """Return the private state directory, which may not exist yet; None where there is no home directory."""
    try:
        return default_queue_path()
    except QueueUnavailable:
        return None


def agent_id() -> str:
    """Return the UUID of this process's agent: of the user's installation and the service that the process is of.

    It is told before the first row, in the same way by all workers of the
    service and at its next start: by what the environment says of
    ``service.name`` and ``service.instance.id``, and where it names no
    service by the directory that the process works in.
    """
    named = OTELResourceDetector().detect().attributes
    service = named.get(SERVICE_NAME)
    parts = (service, named.get(SERVICE_INSTANCE_ID, "")) if service else ("", _working_directory())
    return str(uuid5(UUID(install_id(state_directory())), "\0".join(map(str, parts))))


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return ""


def install_id(directory: Path | None) -> str:
    """Return the UUID kept in `directory`, made at the first call; a passing one where nothing can be kept.

    Args:
        directory: the private state directory, or None where there is none.
    """
    if directory is None:
        return _passing_id()
    path = directory / FILE_NAME
    try:
        prepare_directory(directory, private=True)
        if not path.exists():
            _write_once(path)
        return str(UUID(_read_own(path)))
    except (OSError, ValueError, QueueUnavailable) as error:
        _logger.debug("no lasting install id, using a passing one: %s", error)
        return _passing_id()


@cache
def _passing_id() -> str:
    """Return an id that lasts as long as the process: its calls should at least agree."""
    return str(uuid4())


def _read_own(path: Path) -> str:
    """Read a file of ours: an id that somebody else put there would let them pose as this installation."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor) as file:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise ValueError(f"{path} belongs to another user")
        return file.read(100).strip()


def _write_once(path: Path) -> None:
    """Make the file whole or not at all: of two processes that start together one wins, and both read its id."""
    draft = path.with_name(f"{FILE_NAME}.{uuid4().hex}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{uuid4()}\n")
        os.link(draft, path)
    except FileExistsError:
        _logger.debug("another process has made the install id")
    finally:
        draft.unlink()
