"""Serving the backend, in this process or in several, and what is printed when it listens."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from .database import opened
from .keys import day_text
from .output import fail
from .running import noted

if TYPE_CHECKING:
    import socket

    from ..backend.settings import BackendSettings
    from ..backend.storage.retention import Retention
    from ..backend.storage.store import Store

WORKER = "--worker-of"
"""The option of a process that serves the socket of this number, which the process that started it has opened."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What is to be served.

    Attributes:
        settings: of the backend.
        db: its database, as the command's option names it.
        listener: the socket that is bound.
        retention: how long rows are kept.
        makes_key: whether the project gets a key where it has none.
        verbose: whether every request is logged.
        worker_timeout: seconds of silence after which one of several processes is replaced; 0 is never.
    """

    settings: BackendSettings
    db: str | None
    listener: socket.socket
    retention: Retention
    makes_key: bool
    verbose: bool
    worker_timeout: float

    def run(self, workers: int, until_input_ends: bool) -> None:
        """Serve with so many processes until a signal, or the end of the input where that is to end it.

        Without any, this one is a worker: it serves until the process ends that has started it, too.
        """
        from ..backend.server import end_with_standard_input

        if workers > 1 and os.name != "posix":
            fail("--workers needs a POSIX system: start several backends on one database, each with a --port.")
        if until_input_ends or not workers:
            end_with_standard_input()
        if not workers:
            self._as_worker()
            return
        if workers == 1:
            with opened(self.db) as store:
                lines = self._lines(store)
                with noted(store.path, self._url):
                    self._serve(store, lambda: typer.echo(lines))
            return
        # Opened once before the others do: what is to be made or brought up to date is then, and said once.
        with opened(self.db) as store:
            lines, path = self._lines(store), store.path
        with noted(path, self._url):
            self._serve_with(workers, lines)

    def _as_worker(self) -> None:
        from ..backend.workers import tell_of_listening

        with opened(self.db) as store:
            self._serve(store, lambda: tell_of_listening(self.worker_timeout))

    def _serve_with(self, workers: int, lines: str) -> None:
        from ..backend.workers import Workers

        # The very command that was given: a worker that is started later takes a new release and new files over.
        command: Sequence[str] = [sys.executable, *sys.orig_argv[1:], WORKER, str(self.listener.fileno())]
        if not Workers(command, self.listener, workers, lambda: typer.echo(lines), self.worker_timeout).run():
            fail("A worker could not start; what it says is above.")

    def _serve(self, store: Store, on_listening: Callable[[], None]) -> None:
        from ..backend.alerts.watch import WatchThread
        from ..backend.app import create_app
        from ..backend.lists.refreshing import RefreshThread
        from ..backend.server import serve
        from ..backend.storage.retention import RetentionThread

        app = create_app(store, self.settings)
        threads: list[RetentionThread | RefreshThread | WatchThread] = [
            RetentionThread(store.database, self.retention),
            RefreshThread(store.lists),
        ]
        if self.settings.alerts is not None:
            threads.append(WatchThread(store.database, self.settings.alerts))
        try:
            serve(app, self.listener, on_listening, self.verbose, app.state.streams.end)
        finally:
            for thread in threads:
                thread.stop()

    @property
    def _url(self) -> str:
        from ..backend.server import url_of

        return url_of(self.listener)

    def _lines(self, store: Store) -> str:
        told = _told_of_keys(store, self._url, self.settings.project) if self.makes_key else []
        return "\n".join([f"listening on {self._url}", f"storing in {store.name}", *told])


def _told_of_keys(store: Store, url: str, project: str) -> list[str]:
    """Say what a sender needs. A project without a valid key gets one, which is shown this once and kept hashed."""
    from ..backend.storage.keys import SENDER, StoredKeys

    keys = StoredKeys(store.database)
    known = [record for record in keys.records(project) if record.revoked_at is None and record.role == SENDER]
    if known:
        shown = f"<the key {known[-1].id} of {day_text(known[-1].created_at)}>"
        another = shlex.join(
            ["opentelemetry-guard", "backend", "keys", "create", "--project", project, "--db", str(store.name)]
        )
        told = f"The project {project} has a key already, which is not known any more; for another one: {another}"
    else:
        _, shown = keys.create(project, "made at the first start")
        told = "The API key is new, it lasts, and it is shown only now. For the application that sends:"
    return [
        told,
        f"  export OTEL_EXPORTER_GUARD_ENDPOINT={url}",
        f"  export OTEL_EXPORTER_GUARD_API_KEY={shlex.quote(shown)}",
        f"  export OTEL_EXPORTER_GUARD_PROJECT_ID={shlex.quote(project)}",
        "  export OTEL_TRACES_EXPORTER=guard OTEL_LOGS_EXPORTER=guard OTEL_METRICS_EXPORTER=guard",
    ]
