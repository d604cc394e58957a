"""``opentelemetry-guard demo``: a local Guard backend, instrumented services, real traffic, and what arrived."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...events.enrichment import SERVICE_NAME
from ..local import check_extras, installed, local_backend
from ..output import fail
from .services import PROJECT, Service, ban, listens, patiently, service
from .traffic import EXPECTED, INJECTOR, Clients

if TYPE_CHECKING:
    import requests

Event = Mapping[str, object]


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave backend and services running, until Ctrl+C.")] = False,
) -> None:
    """Run a local backend and instrumented services, attack them, ban an attacker, and show what has arrived.

    Everything listens on loopback, on free ports, and nothing stays behind.
    """
    check_extras("The demonstration")
    if wrong := run(keep):
        fail(f"The demonstration went wrong: {'; '.join(wrong)}.")


def run(keep: bool) -> list[str]:
    """Run the demonstration; return what went wrong: what has not arrived, came without its trace, or was not refused.

    Args:
        keep: leave backend and services running, until Ctrl+C, SIGTERM, or the end of one of them.
    """
    import requests  # here, since every other command would load it too

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the children end with us
    http = requests.Session()
    http.trust_env = False
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="guard-demo-")))
        database = directory / "backend.db"
        guarded = installed("guard")
        third = ", and one that fastapi-guard guards" if guarded else ""
        _say(f"starting a local backend, and services: a shop with checks of its own, a plain one{third}")
        if not guarded:
            _say("left out: a service with fastapi-guard, which is not installed (extra 'fastapi-guard')")
        backend = stack.enter_context(local_backend(database, PROJECT))
        _say(f"dashboard: {backend}")
        running = stack.enter_context(ExitStack())
        services = [
            running.enter_context(service("shop", directory, backend)),
            running.enter_context(service("accounts", directory, backend, options=["--enforce"])),
        ]
        if guarded:
            # fastapi-guard looks for the client itself, and a server that has done so would be in its way.
            options = ["--no-proxy-headers"]
            services.append(running.enter_context(service("gateway", directory, backend, server=options)))
        clients = Clients(http, {one.name: one.address for one in services}, _say)
        clients.send_all()
        wrong = _banned(clients, services, database)
        if not keep:
            _say("ending the services, which deliver the last that they have")
            running.close()
        names = [one.name for one in services]
        arrived = _arrived(http, backend, names)
        _show(arrived, "so far " if keep else "")
        wrong += _missing(arrived, names)
        if keep:
            _stay(backend, services)
        else:
            print(
                "\nTo look around on the dashboard: opentelemetry-guard demo --keep, or make demo KEEP=1.", flush=True
            )
    return wrong


def _say(what: str) -> None:
    print(f"- {what}", flush=True)


def _banned(clients: Clients, services: Sequence[Service], database: Path) -> list[str]:
    """Ban an attacker, and see that every service refuses it; return which ones don't."""
    pages = {"shop": "/items/1", "accounts": "/profiles/ada", "gateway": "/catalogue"}
    urls = {one.name: one.address + pages[one.name] for one in services}
    before = [str(clients.status(INJECTOR, url)) for url in urls.values()]
    ban(INJECTOR, database)
    began = time.monotonic()
    let_in = dict(urls)
    for _ in patiently():
        let_in = {name: url for name, url in let_in.items() if clients.status(INJECTOR, url) != 403}
        if not let_in:
            seconds = time.monotonic() - began
            _say(
                f"{INJECTOR} is banned: it got {' and '.join(before)} before, and 403 everywhere {seconds:.1f} s after"
            )
            break
    return [f"{name} lets a banned address in" for name in let_in]


def _arrived(http: requests.Session, backend: str, services: Sequence[str]) -> list[Event]:
    """Return all events that the backend has stored, once there are those that have to come or patience ends."""
    events: list[Event] = []
    for _ in patiently():
        events, after = [], 0
        while page := http.get(f"{backend}/local/events", params={"limit": 1000, "after": after}).json()["events"]:
            events += [entry["event"] for entry in page]
            after = page[-1]["id"]
        if not _missing(events, services):
            break
    return events


def _missing(events: Sequence[Event], services: Sequence[str]) -> list[str]:
    """Return what should have arrived of the services and has not, and how many have no trace."""
    found = {(_service(event), event["event_type"]) for event in events}
    wrong = [
        f"no {kind} of {name} has arrived"
        for name in services
        for kind in sorted(EXPECTED[name])
        if (name, kind) not in found
    ]
    # What rules have changed in fastapi-guard is no request's.
    if untraced := sum(not _metadata(event).get("trace_id") for event in events if event["endpoint"]):
        wrong.append(f"{untraced} events of requests have arrived without a trace id")
    return wrong


def _show(events: Sequence[Event], when: str) -> None:
    """Print what the backend has stored, those that differ by their trace alone as one line."""
    print(f"\n{when}the backend has stored {len(events)} events:\n".capitalize())
    width = 2 + max((len(str(event["event_type"])) for event in events), default=10)
    print(
        f"{'':>4}  {'service':<10}{'event type':<{width}}{'address':<16}{'country':<9}{'endpoint':<18}{'status':<8}"
        "trace id of the first"
    )
    alike: dict[tuple[str, ...], list[Event]] = {}
    for event in events:
        texts = (str(event[name] or "-") for name in ("event_type", "ip_address", "country", "endpoint", "status_code"))
        alike.setdefault((_service(event), *texts), []).append(event)
    for (name, kind, address, country, endpoint, status), some in alike.items():
        trace = _metadata(some[0]).get("trace_id", "-")
        what = f"{name:<10}{kind:<{width}}{address:<16}{country:<9}{endpoint:<18}{status:<8}"
        print(f"{len(some):>4}  {what}{trace}", flush=True)


def _stay(backend: str, services: Sequence[Service]) -> None:
    """Return at Ctrl+C, at SIGTERM, or when the backend or one of the services has ended."""
    print("\nStill running, until Ctrl+C:")
    for one in services:
        print(f"  {one.name + ':':<12}{one.address}")
    print(f"  {'dashboard:':<12}{backend}", flush=True)
    pause = threading.Event()
    with suppress(KeyboardInterrupt):
        while not (ended := [one.name for one in services if one.process.poll() is not None]) and listens(backend):
            pause.wait(0.5)
        print(f"\nThe {'service ' + ended[0] if ended else 'backend'} has ended, and all the rest with it.", flush=True)


def _service(event: Event) -> str:
    return str(_metadata(event).get(SERVICE_NAME, "-"))


def _metadata(event: Event) -> Event:
    metadata = event["metadata"]
    return metadata if isinstance(metadata, dict) else {}
