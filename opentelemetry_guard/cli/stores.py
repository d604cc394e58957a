"""Which delivery queue a command is about, opened for a person's eyes: nothing is created by looking."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..queue.base import KINDS, DeliveryQueue, Kind, QueueOptions, QueueUnavailable
from ..queue.redis.store import FleetStats, RedisQueue
from ..queue.redis.url import parse_redis_url
from ..queue.sqlite.path import default_queue_path, sqlite_path
from ..queue.sqlite.store import SqliteQueue
from ..queue.url import open_queue
from ..settings.delivery import PREFIX, GuardConfig
from ..settings.durable import PREFIX as DURABLE_PREFIX
from ..settings.otlp import KINDS as OTLP_KINDS
from ..settings.setting import SettingError
from ..settings.urls import mask_url
from . import otlp
from .output import fail, hush

Answer = TypeVar("Answer")

_DESTINATION = re.compile(r"-(?P<destination>[0-9a-f]{16})$")
_REDIS_SECONDS = 3.0
_BUSY_SECONDS = 5.0
"""How long a person waits for a queue, which lets an application wait for half a second."""
_PAUSE_SECONDS = 0.1
_IDENTITY = ("ENDPOINT", "PROJECT_ID", "API_KEY")
"""Settings that a queue's name derives from."""


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """A queue, its name for people, and the settings that would deliver what is in it where that is Guard's.

    With `is_otlp` it has requests of the durable exporters, whose settings are others.
    """

    queue: DeliveryQueue
    label: str
    destination: str
    config: GuardConfig
    is_otlp: bool = False

    def ask(self, question: Callable[[DeliveryQueue], Answer]) -> Answer:
        """Put a question to the queue, and again while the services that use it keep it busy.

        Raises:
            QueueUnavailable: it can't be used, or not within some seconds.
        """
        ends = time.monotonic() + _BUSY_SECONDS
        pause = threading.Event()
        while True:
            try:
                return question(self.queue)
            except QueueUnavailable:
                if time.monotonic() >= ends or pause.wait(_PAUSE_SECONDS):
                    raise

    def fleet(self) -> FleetStats | None:
        """Return what Redis has of the whole fleet; None for a queue that belongs to one machine.

        Raises:
            QueueUnavailable: Redis does not answer.
        """
        if not isinstance(self.queue, RedisQueue):
            return None
        if (found := self.queue.fleet()) is None:
            raise QueueUnavailable(self.queue.link.last_error or "Redis does not answer")
        return found


def open_store(url: str | None, destination: str | None) -> OpenedStore:
    """Open the queue of `url`, else of the environment, else the default one; fail in one line where there is none.

    Args:
        url: of the queue, or of one SQLite file of a queue.
        destination: which queue of several that share a place; None is the one of the environment's settings, or the
            only one that there is.
    """
    hush()
    try:
        config = GuardConfig.resolve(queue_url=url or _url_of_otlp())
    except SettingError as error:
        fail(str(error))
    if config.queue_url is None:
        try:
            directory = default_queue_path()
        except QueueUnavailable as error:
            fail(str(error))
        return _open_file(directory, "queue", ".db", destination, config)
    if config.queue_url.lower().startswith("memory:"):
        fail("A memory queue lives in its process, and ends with it: name the sqlite:// or redis:// URL with --url.")
    try:
        if config.queue_url.lower().startswith("sqlite:"):
            path = sqlite_path(config.queue_url)
            named = _DESTINATION.search(path.stem)
            if named and path.exists():
                path, destination = path.with_name(path.stem[: named.start()] + path.suffix), named["destination"]
            return _open_file(path.parent, path.stem, path.suffix, destination, config)
        known = otlp.destinations()
        wanted = destination or (config.destination if _names_guard() else next(iter(known), config.destination))
        kinds = tuple(OTLP_KINDS) if wanted in known else KINDS
        options = QueueOptions(wanted, max_bytes=config.queue_max_bytes, kinds=kinds)
        queue = open_queue(config.queue_url, options)
        if isinstance(queue, RedisQueue):
            queue = _patient(queue, config.queue_url, options)
    except ValueError as error:
        fail(str(error))
    return OpenedStore(queue, mask_url(config.queue_url), wanted, config, kinds is not KINDS)


def _patient(queue: RedisQueue, url: str, options: QueueOptions) -> RedisQueue:
    """Return the same queue with the patience of a person, who can wait longer than an application; fail without Redis.

    Raises:
        ValueError: the URL is malformed.
    """
    patient = RedisQueue(parse_redis_url(url), options, queue.local, patience=_REDIS_SECONDS)
    if patient.fleet() is None:
        why = patient.link.last_error or "it does not answer"
        patient.close()
        fail(f"Redis at {mask_url(url)} can't be used: {why.rstrip('.')}. Check {PREFIX}QUEUE_URL or --url.")
    return patient


def _open_file(directory: Path, stem: str, suffix: str, destination: str | None, config: GuardConfig) -> OpenedStore:
    found = _destinations(directory, stem, suffix)
    if destination is None:
        destination = _choose(found, config, directory)
    path = directory / f"{stem}-{destination}{suffix}"
    if destination not in found:
        fail(f"There is no queue at {path}: nothing was ever queued there, or --url and --destination name another.")
    kinds = _kinds_in(path, destination)
    queue = SqliteQueue(path, QueueOptions(destination, max_bytes=config.queue_max_bytes, kinds=kinds))
    return OpenedStore(queue, str(path), destination, config, kinds is not KINDS)


def _kinds_in(path: Path, destination: str) -> tuple[Kind, ...]:
    """Return Guard's kinds of rows, or OTLP's where the file has some of those."""
    looked_at = SqliteQueue(path, QueueOptions(destination))
    try:
        found = set(looked_at.stats().ledger) - set(KINDS)
    except QueueUnavailable:
        found = set()  # whoever asks next says what is wrong with it
    looked_at.close()
    return tuple(OTLP_KINDS) if found else KINDS


def _choose(found: Sequence[str], config: GuardConfig, directory: Path) -> str:
    """Return the destination of the settings, or where they name none the only one that is there."""
    if _names_guard() or config.destination in found or not found:
        return config.destination
    if ours := next((known for known in otlp.destinations() if known in found), None):
        return ours
    if len(found) > 1:
        fail(f"There are several queues in {directory}: choose one with --destination {' or '.join(found)}.")
    return found[0]


def _names_guard() -> bool:
    return any(os.environ.get(PREFIX + name) for name in _IDENTITY)


def _url_of_otlp() -> str | None:
    """Return the URL of the durable exporters' queue, None where the environment speaks of Guard's or of neither."""
    if _names_guard() or os.environ.get(f"{PREFIX}QUEUE_URL"):
        return None
    return os.environ.get(f"{DURABLE_PREFIX}QUEUE_URL") or None


def _destinations(directory: Path, stem: str, suffix: str) -> list[str]:
    names: list[str] = []
    with suppress(OSError):
        names = sorted(path.stem for path in directory.iterdir() if path.suffix == suffix)
    matches = (_DESTINATION.search(name) for name in names if name.startswith(f"{stem}-"))
    return [match["destination"] for match in matches if match and match.string[: match.start()] == stem]
