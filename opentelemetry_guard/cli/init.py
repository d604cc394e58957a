"""``opentelemetry-guard init``: the files that a service begins with."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ..settings.setting import Setting
from ..settings.table import GROUPS
from .output import fail
from .run import DEFAULTS

_NEEDED = {
    "OTEL_EXPORTER_GUARD_API_KEY": "your-api-key",
    "OTEL_EXPORTER_GUARD_PROJECT_ID": "your-project-id",
    "OTEL_SERVICE_NAME": "{service}",
}

_UNIT = """\
# /etc/systemd/system/{service}.service
[Unit]
Description={service}
After=network-online.target
Wants=network-online.target

[Service]
WorkingDirectory={directory}
EnvironmentFile={directory}/.env
# The queue outlives the service, and belongs to it alone.
DynamicUser=yes
StateDirectory={service}
Environment=XDG_STATE_HOME=/var/lib/{service}
ExecStart={command} run -- uvicorn main:app --host 127.0.0.1 --port 8000
# Longer than OTEL_EXPORTER_GUARD_SHUTDOWN_TIMEOUT, which sends what is left.
TimeoutStopSec=15
Restart=on-failure
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
"""

_COMPOSE = """\
# An image of your application, with opentelemetry-guard[auto,cli] installed in it.
services:
  {service}:
    build: .
    command: opentelemetry-guard run -- uvicorn main:app --host 0.0.0.0 --port 8000
    env_file: .env
    environment:
      XDG_STATE_HOME: /state
    ports: ["8000:8000"]
    # What is not delivered yet outlives the container.
    volumes: ["queue:/state"]
    stop_grace_period: 15s

volumes:
  queue:
"""


def init(
    directory: Annotated[Path, typer.Argument(help="Where to write.", file_okay=False)] = Path(),
    service: Annotated[
        str | None, typer.Option("--service", help="What the service is called.", show_default="the directory's name")
    ] = None,
    systemd: Annotated[bool, typer.Option("--systemd", help="Write a systemd unit, too.")] = False,
    compose: Annotated[bool, typer.Option("--compose", help="Write a file for Docker Compose, too.")] = False,
) -> None:
    """Write a commented .env with every setting, and on request a systemd unit or a Compose file.

    Nothing that exists is written over.
    """
    place = directory.expanduser().absolute()
    name = service or re.sub(r"[^a-z0-9-]+", "-", place.name.lower()).strip("-") or "service"
    if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._-]*", name):
        fail(f"The service {name!r} can't be called so: use letters, digits, dots, dashes and underscores.")
    command = str(Path(sys.argv[0]).absolute().parent / "opentelemetry-guard")
    filled = {"service": name, "directory": str(place), "command": command}
    files = {place / ".env": "".join(f"{line}\n" for line in _environment(name))}
    if systemd:
        files[place / f"{name}.service"] = _UNIT.format(**filled)
    if compose:
        files[place / "compose.yaml"] = _COMPOSE.format(**filled)
    for path in files:
        if path.exists():
            fail(f"{path} exists already: move it away, or choose another directory.")
    for path, text in files.items():
        _write(path, text)
        typer.echo(f"wrote {path}")
    typer.echo(
        f"Put the key and the project into {place / '.env'}, and start the service:\n"
        f"  set -a; . {shlex.quote(str(place / '.env'))}; set +a; opentelemetry-guard run -- uvicorn main:app"
    )


def _write(path: Path, text: str) -> None:
    """Write a new file that its owner alone may read: a key comes into it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        fail(f"{path} can't be written: {error.strerror}. Choose another directory.")


def _environment(service: str) -> Iterator[str]:
    """Yield the lines of the file of variables: what is needed, what `run` sets, and all others, commented out."""
    yield "# Settings of opentelemetry-guard. Lines that begin with # are defaults; remove it to change one."
    yield ""
    for name, value in _NEEDED.items():
        yield f"{name}={value.format(service=service)}"
    yield ""
    yield "# What `opentelemetry-guard run` sets where it is not set."
    for name, value in DEFAULTS.items():
        yield f"#{name}={value}"
    for group in GROUPS:
        for setting in group.settings().values():
            if setting.variable and setting.variable not in _NEEDED:
                yield ""
                yield f"# {_plain(setting.declared.meaning)}"
                yield f"#{setting.variable}={_default(setting)}"


def _plain(meaning: str) -> str:
    """Return a line of Markdown as plain text."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", meaning).replace("`", "")


def _default(setting: Setting) -> str:
    """Return a default as a variable says it; none where it is no single value."""
    default = setting.default
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) if isinstance(default, str | int) else ""
