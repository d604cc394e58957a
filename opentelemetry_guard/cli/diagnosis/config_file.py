"""What a declarative configuration (``OTEL_CONFIG_FILE``) says about the Guard exporters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass

from .finding import Finding, ok, problem, warning

VARIABLE = "OTEL_CONFIG_FILE"
_SECTIONS = {"logger_provider": "events get lost", "tracer_provider": "spans are not used", "meter_provider": ""}


@dataclass(frozen=True, slots=True)
class Declared:
    """What there is to say about the file, and the settings that it gives the exporter of events."""

    findings: list[Finding] = field(default_factory=list)
    settings: Mapping[str, object] = field(default_factory=dict, repr=False)


def read_config_file(path: str) -> Declared:
    """Read the file as the SDK would, and look for the exporter ``guard`` in each of its pipelines.

    Its values may be secrets: where it can't be used, only the place of the mistake is shown.
    """
    try:
        from opentelemetry.configuration import load_config_file
    except ImportError as error:
        return _unusable(f"can't be read ({error})", "pip install 'opentelemetry-guard[declarative]'")
    try:
        content = load_config_file(path)
    except Exception as error:  # noqa: BLE001  the loader, its schema and its parser have no exception in common
        return _unusable(f"{path} can't be used: {_mistake(error)}", f"correct the file, or {VARIABLE}")
    findings = [ok(VARIABLE, path)]
    settings: list[Mapping[str, object]] = []
    for section, loss in _SECTIONS.items():
        here = list(_guard_exporters(getattr(content, section, None)))
        settings += here
        if not here:
            text = f"{path} has no exporter guard in {section}{': ' if loss else ''}{loss}"
            remedy = f"add the exporter guard to a batch processor or reader of {section}"
            findings.append((problem if section == "logger_provider" else warning)(VARIABLE, text, remedy))
    if not getattr(getattr(content, "propagator", None), "composite", None):
        # Its empty propagator gives the ASGI instrumentation no context to attach, and that raises into the request.
        text = f"{path} names no propagator: with OpenTelemetry 1.45 every instrumented request fails"
        findings.append(problem(VARIABLE, text, "add propagator: {composite: [{tracecontext: null}, {baggage: null}]}"))
    return Declared(findings, settings[0] if settings else {})


def _unusable(message: str, remedy: str) -> Declared:
    return Declared([problem(VARIABLE, f"{message}; no telemetry starts then", remedy)])


def _guard_exporters(content: object) -> Iterator[Mapping[str, object]]:
    """Yield the settings of every exporter named guard below `content`."""
    if is_dataclass(content) and not isinstance(content, type):
        content = vars(content)  # a component that the schema does not know is no field
    if isinstance(content, Mapping):
        for name, below in content.items():
            if name == "guard":
                yield below if isinstance(below, Mapping) else {}
            else:
                yield from _guard_exporters(below)
    elif isinstance(content, list):
        for below in content:
            yield from _guard_exporters(below)


def _mistake(error: Exception) -> str:
    """Say what is wrong without the words of a parser or a schema, which quote the file."""
    cause = error.__cause__
    if cause is None:
        return str(error)
    if mark := getattr(cause, "problem_mark", None):
        return f"line {mark.line + 1} can't be parsed"
    if where := getattr(cause, "absolute_path", None):
        return f"{'.'.join(str(step) for step in where)} is not what the schema wants"
    return "it is not what the schema wants"
