"""``opentelemetry-guard backend ban`` and ``unban``: the rules page's most frequent change, from a terminal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

import typer

from .database import Database, Project, opened
from .output import fail
from .running import enforcement_of

if TYPE_CHECKING:
    from ..models import DynamicRules

Addresses = Annotated[list[str], typer.Argument(help="Addresses, or ranges such as 192.0.2.0/24.")]


def ban(addresses: Addresses, project: Project = "default", db: Database = None) -> None:
    """Ban addresses or ranges: applications that enforce the project's rules refuse them from their next poll on."""
    from ..backend.bans import with_ban

    def change(rules: DynamicRules) -> DynamicRules:
        for address in addresses:
            rules = with_ban(rules, address)
        return rules

    _change(project, db, change)


def unban(addresses: Addresses, project: Project = "default", db: Database = None) -> None:
    """Lift bans."""
    from ..backend.bans import read_network

    def change(rules: DynamicRules) -> DynamicRules:
        lifted = {read_network(address.strip()) for address in addresses}
        if unknown := lifted - set(rules.ip_blacklist):
            raise ValueError(f"Not banned in the project {project}: {', '.join(sorted(unknown))}.")
        left = [known for known in rules.ip_blacklist if known not in lifted]
        return rules.model_copy(update={"ip_blacklist": left, "timestamp": datetime.now(timezone.utc)})

    _change(project, db, change)


def _change(project: str, db: Database, change: Callable[[DynamicRules], DynamicRules]) -> None:
    with opened(db) as store:
        try:
            rules = store.change_rules(project, change)
        except ValueError as error:
            fail(str(error))
        enforcement = enforcement_of(store.path, project)
    banned = len(rules.ip_blacklist)
    typer.echo(f"Version {rules.version} of the rules of the project {project}: {banned} banned.")
    if enforcement is not None:
        typer.echo(enforcement.sentence)
    else:
        typer.echo("How many applications enforce them is told by a backend of this database, on its page Rules.")
