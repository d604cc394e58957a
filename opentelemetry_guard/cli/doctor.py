"""``opentelemetry-guard doctor``: everything that a person would check when events don't arrive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from .diagnosis.finding import Finding, Level, problem
from .output import hush, one_line, plural, print_json

_MARKS: dict[Level, tuple[str, str]] = {
    "ok": ("ok     ", typer.colors.GREEN),
    "warning": ("warning", typer.colors.YELLOW),
    "problem": ("problem", typer.colors.RED),
}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    send: Annotated[bool, typer.Option(help="Send a test event, of the type doctor_test.")] = True,
) -> None:
    """Check packages, settings, the way to the backend, the API key, the clock and the queue; send a test event.

    Run it with the service's own environment. It leaves with 0 when there is no problem, else with 1.
    """
    hush()
    findings: list[Finding] = []
    for finding in diagnose(send):
        findings.append(finding)
        if not as_json:
            _print(finding)
    problems = sum(finding.level == "problem" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if as_json:
        print_json({"healthy": not problems, "findings": [asdict(finding) for finding in findings]})
    else:
        typer.echo(f"\n{plural(problems, 'problem')}, {plural(warnings, 'warning')}")
    if problems:
        raise typer.Exit(1)


def diagnose(send: bool = True) -> Iterator[Finding]:
    """Yield every finding, as soon as it is there. A test event is sent only where the way to the backend is clear."""
    # Here, since every other command would load all of it too.
    from .diagnosis.packages import check_packages

    yield from check_packages()
    try:
        from ..settings.delivery import GuardConfig
        from .diagnosis.config_file import VARIABLE, read_config_file
        from .diagnosis.connection import check_connection, check_delivery
        from .diagnosis.durable import check_durable
        from .diagnosis.environment import check_environment, uses_guard
        from .diagnosis.rules import check_rules
        from .diagnosis.store import check_store
        from .otlp import signals_in_use
    except ImportError as error:
        yield problem("opentelemetry-guard", f"can't be loaded: {error}", "install what is missing, see above")
        return
    path = os.environ.get(VARIABLE)
    declared = read_config_file(path) if path else None
    yield from check_durable(os.environ)
    if declared is None and not uses_guard(os.environ) and signals_in_use(os.environ):
        return  # it stands alone: nothing of Guard's is expected
    yield from check_environment(declared)
    try:
        config = GuardConfig.resolve(**(declared.settings if declared else {}))
    except (ValueError, TypeError):
        return  # the environment's findings have said so, and nothing more can be known
    clear = bool(config.api_key)
    for finding in check_connection(config):
        clear = clear and (finding.level != "problem" or finding.subject == "clock")
        yield finding
    if clear:
        yield from check_rules(config)
    yield from check_store(config)
    if send and clear:
        yield from check_delivery(config)


def _print(finding: Finding) -> None:
    mark, color = _MARKS[finding.level]
    typer.echo(f"{typer.style(mark, fg=color)}  {one_line(f'{finding.subject}: {finding.message}')}")
    if finding.remedy:
        typer.echo(f"         -> {one_line(finding.remedy)}")
