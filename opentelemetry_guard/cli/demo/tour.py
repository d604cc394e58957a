"""``opentelemetry-guard demo``: a local Guard backend, the instrumented shop, real traffic, and what arrived."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..local import BIN, bare, check_extras, child, destination, local_backend
from ..output import fail

if TYPE_CHECKING:
    import requests

PROJECT = "demo"
EXPECTED = {"authentication_failed", "penetration_attempt", "rate_limited"}
PATIENCE = 60.0
"""Seconds after which something that should have happened is called a failure."""


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave backend and shop running, until Ctrl+C.")] = False,
) -> None:
    """Run a local backend and an instrumented shop, attack the shop, and show what has arrived.

    Everything listens on loopback, on free ports, and nothing stays behind.
    """
    check_extras("The demonstration")
    if wrong := run(keep):
        fail(f"The demonstration went wrong: {'; '.join(wrong)}.")


def run(keep: bool) -> list[str]:
    """Run the demonstration; return what went wrong, nothing when every kind of event has arrived with its trace.

    Args:
        keep: leave backend and shop running, until Ctrl+C or SIGTERM.
    """
    import requests  # here, since every other command would load it too

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the children end with us
    http = requests.Session()
    http.trust_env = False
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="guard-demo-")))
        backend = stack.enter_context(local_backend(directory / "backend.db", PROJECT))
        shop = stack.enter_context(instrumented_shop(directory, backend))
        attack(http, shop)
        arrived = wait_for_events(http, backend)
        show(arrived)
        if keep:
            print(f"\nStill running. Shop: {shop}  Dashboard: {backend}  End with Ctrl+C.", flush=True)
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
    wrong = [f"no {kind} has arrived" for kind in sorted(EXPECTED - {str(event["event_type"]) for event in arrived})]
    if untraced := sum(not _metadata(event).get("trace_id") for event in arrived):
        wrong.append(f"{untraced} events have arrived without a trace id")
    return wrong


@contextmanager
def instrumented_shop(directory: Path, backend: str) -> Iterator[str]:
    """Run the shop under ``opentelemetry-instrument``, set up by environment variables alone, and give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        "XDG_STATE_HOME": str(directory / "state"),
        **destination(backend, PROJECT),
    }
    uvicorn = ["uvicorn", "opentelemetry_guard.cli.demo.shop:app", "--port", str(port), "--log-level", "warning"]
    with child([str(BIN / "opentelemetry-guard"), "run", "--", *uvicorn], bare(environment)) as process:
        address = f"http://127.0.0.1:{port}"
        wait_for_port(port, process)
        yield address


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when something listens on a loopback port."""
    for _ in _patiently():
        if process.poll() is not None:
            raise SystemExit(f"the shop ended with status {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise SystemExit(f"nothing listens on port {port}")


def _patiently() -> Iterator[None]:
    """Give a turn ten times a second until patience ends."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.1)):
        yield
        pause.wait(0.1)


def attack(http: requests.Session, shop: str) -> None:
    """Send normal requests, a failed login, an attack and a burst."""
    print(f"sending traffic to the shop at {shop}")
    for number in range(5):
        http.get(f"{shop}/items/{number}").raise_for_status()
    http.post(f"{shop}/login", json={"user": "ada", "password": "lovelace"}).raise_for_status()
    http.post(f"{shop}/login", json={"user": "ada", "password": "guess"})
    http.get(f"{shop}/search", params={"q": "1' UNION SELECT password FROM users"})
    for number in range(30):
        http.get(f"{shop}/items/{number}")


def wait_for_events(http: requests.Session, backend: str) -> list[dict[str, object]]:
    """Return the events that the backend has stored, once there is one of each kind or patience ends."""
    events: list[dict[str, object]] = []
    for _ in _patiently():
        answer = http.get(f"{backend}/local/events", params={"limit": 1000}).json()
        events = [entry["event"] for entry in answer["events"]]
        if {event["event_type"] for event in events} >= EXPECTED:
            break
    return events


def show(events: list[dict[str, object]]) -> None:
    """Print what the backend has stored."""
    print(f"\nthe backend has stored {len(events)} events:\n")
    print(f"{'event type':<24}{'address':<14}{'endpoint':<16}{'status':<8}trace id")
    for event in events:
        print(
            f"{event['event_type']:<24}{event['ip_address']:<14}{event['endpoint']:<16}{event['status_code']:<8}"
            f"{_metadata(event).get('trace_id', '-')}"
        )


def _metadata(event: Mapping[str, object]) -> Mapping[str, object]:
    metadata = event["metadata"]
    return metadata if isinstance(metadata, dict) else {}
