"""``opentelemetry-guard events``: what a project has sent to a local backend, and what arrives, in any format."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, NoReturn
from urllib.parse import urlencode

import orjson
import typer

from ..delivery.http import HTTP, Answer
from ..delivery.outcome import Outcome
from ..settings.delivery import PREFIX, GuardConfig
from ..settings.setting import SettingError
from ..settings.shown import visible
from ..siem.facts import facts_of
from ..siem.formats import FORMATS
from ..version import __version__
from .ctrl_c import ending_on_the_spot
from .output import fail, hush, moment_text, one_line

Row = dict[str, object]

TABLE = "table"
_FORMATS = (TABLE, *FORMATS)
_SECONDS = 10.0
_LONGEST_PAUSE = 10.0
_MOST = 64 * 1024 * 1024
"""Bytes of one answer: 500 events, each of which may be large."""


class _Feed:
    """Asks the backend for events; one that doesn't answer is said once, and asked again."""

    def __init__(self, config: GuardConfig, filters: Mapping[str, str], patient: bool) -> None:
        self._config, self._filters, self._patient = config, filters, patient
        self._http = HTTP(config, lambda: (config.api_key,))
        self._failures = 0

    def ask(self, **parameters: int) -> tuple[list[Row], int, bool]:
        """Return events, the id to go on from, and whether there are more at once."""
        query = urlencode({**self._filters, **parameters})
        url = f"{self._config.endpoint}/local/feed?{query}"
        headers = {
            **self._config.headers,
            "User-Agent": f"opentelemetry-guard/{__version__}",
            "X-API-Key": self._config.api_key or "",
        }
        if self._config.project_id:
            headers["X-Project-ID"] = self._config.project_id
        while True:
            answer = self._http.request("GET", url, headers, None, _SECONDS, _MOST)
            if isinstance(answer, Answer) and answer.status == 200:
                if self._failures:
                    typer.echo("The backend answers again.", err=True)
                    self._failures = 0
                return _read(answer)
            self._wait(answer)

    def _wait(self, answer: Answer | Outcome) -> None:
        """Wait before the next try; the command ends where there is nothing to wait for."""
        endpoint = f"{PREFIX}ENDPOINT"
        if isinstance(answer, Answer):
            why = f"answers {answer.status}: {_detail(self._http.quotable(answer))}"
            if answer.status in (401, 403):
                fail(f"The backend refuses the key: {_detail(answer)} Check {PREFIX}API_KEY and {PREFIX}PROJECT_ID.")
            if answer.status == 404:
                fail(f"{self._config.endpoint} has no feed of events: {endpoint} must be that of a local backend.")
            if answer.status == 422:
                fail(_detail(answer))
        else:
            why = f"doesn't answer: {answer.reason}"
        told = f"The backend at {self._config.endpoint} {one_line(why)}"
        if not self._patient:
            fail(f"{told} Check that it runs, and {endpoint}.")
        if not self._failures:
            typer.echo(f"{told} Trying again.", err=True)
        self._failures += 1
        # Nobody waits for this but the person who may press Ctrl+C.
        time.sleep(min(_LONGEST_PAUSE, 2.0 ** min(self._failures - 1, 10)))


def _read(answer: Answer) -> tuple[list[Row], int, bool]:
    try:
        told = orjson.loads(answer.body)
        return [one["event"] for one in told["events"]], int(told["next"]), bool(told["more"])
    except (ValueError, TypeError, KeyError):
        fail(f"What answers is no local backend: check {PREFIX}ENDPOINT.")


def _detail(answer: Answer) -> str:
    try:
        return str(orjson.loads(answer.body)["detail"])
    except (ValueError, TypeError, KeyError):
        return ""


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what arrives, until Ctrl+C.")] = False,
    format_name: Annotated[str, typer.Option("--format", help=f"One of {', '.join(_FORMATS)}.")] = TABLE,
    last: Annotated[int, typer.Option(min=0, max=500, help="How many of the latest to begin with.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="Begin with the first that is kept.")] = False,
    event_type: Annotated[str, typer.Option("--type", help="Only this type.")] = "",
    address: Annotated[str, typer.Option(help="Only this client: 192.0.2.7 or 192.0.2.*")] = "",
    endpoint: Annotated[str, typer.Option(help="Only this endpoint: /login or /api/*")] = "",
    action: Annotated[str, typer.Option(help="Only what ended so: blocked")] = "",
    service: Annotated[str, typer.Option(help="Only this service.")] = "",
    within: Annotated[str, typer.Option(help="Only those of the last 15m, 1h, 6h, 24h or 7d.")] = "",
    since: Annotated[str, typer.Option(help="Only from this time in UTC on.")] = "",
    until: Annotated[str, typer.Option(help="Only before this time in UTC.")] = "",
    url: Annotated[str | None, typer.Option(envvar=f"{PREFIX}ENDPOINT", help="The backend.")] = None,
    api_key: Annotated[str | None, typer.Option(envvar=f"{PREFIX}API_KEY", help="A key of the project.")] = None,
) -> None:
    """List a project's events from a local backend, and follow what arrives; see docs/siem.md for the formats."""
    hush()
    if format_name not in _FORMATS:
        raise typer.BadParameter(f"must be one of {', '.join(_FORMATS)}", param_hint="--format")
    try:
        config = GuardConfig.resolve(endpoint=url, api_key=api_key)
    except SettingError as error:
        fail(str(error))
    if not config.api_key:
        fail(f"There is no API key: set {PREFIX}API_KEY, or make one with opentelemetry-guard backend keys create.")
    named = {"event_type": event_type, "address": address, "endpoint": endpoint, "action": action, "service": service}
    filters = {**named, "within": within, "since": since, "until": until}
    feed = _Feed(config, {name: text for name, text in filters.items() if text}, patient=follow)
    write = _line if format_name == TABLE else FORMATS[format_name].line
    with ending_on_the_spot() as ctrl_c:
        try:
            for rows in _pages(feed, 0 if everything else None, last, follow):
                with ctrl_c.after():
                    _print(rows, write)
        except BrokenPipeError:
            _leave_quietly()


def _pages(feed: _Feed, after: int | None, last: int, follow: bool) -> Iterator[list[Row]]:
    """Yield events as they come; the end of the list is the end, unless it is followed."""
    while True:
        rows, reached, more = feed.ask(last=last) if after is None else feed.ask(after=after)
        after = reached
        yield rows
        if more:
            continue
        if not follow:
            return
        time.sleep(1.0)  # the backend calls nobody: it is asked what has arrived
        if _nobody_reads():
            return


def _print(rows: list[Row], write: Callable[[Mapping[str, object]], bytes]) -> None:
    for row in rows:
        line = write(row)
        if sys.stdout.isatty():
            line = visible(line.decode(errors="replace")).encode()
        sys.stdout.buffer.write(line + b"\n")
    sys.stdout.flush()


def _line(row: Mapping[str, object]) -> bytes:
    """Return an event in columns for a person."""
    facts = facts_of(row)
    cells = (
        moment_text(facts.time),
        f"{facts.severity:>2}",
        f"{facts.event_type:<22}",
        f"{facts.service or '-':<12}",
        facts.message,
    )
    return visible(one_line("  ".join(cells))).encode()


def _nobody_reads() -> bool:
    """Whether the other end of the pipe on standard output is closed: without an event nothing else would tell."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _leave_quietly() -> NoReturn:
    """End without the complaint of Python's own flush at exit, which would meet the closed pipe again."""
    sys.stdout = None
    raise typer.Exit(0)
