"""Whether the environment variables say what somebody who wants events to arrive would say."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points

from ... import environment_variables
from ...config import PREFIX, GuardConfig, SettingError
from ...instrumentation import options
from ...urls import mask_url
from .finding import Finding, ok, problem, warning

_SIGNALS = {
    "OTEL_LOGS_EXPORTER": "opentelemetry_logs_exporter",
    "OTEL_TRACES_EXPORTER": "opentelemetry_traces_exporter",
    "OTEL_METRICS_EXPORTER": "opentelemetry_metrics_exporter",
}
"""The variable of each signal, and the group of the entry points that it names."""

_OWN = (PREFIX, options.PREFIX)
_KNOWN = frozenset(name for name in vars(environment_variables) if name.startswith("OTEL_"))
_SECRET = ("KEY", "SECRET", "HEADERS", "PASSWORD")
_SWITCHED_OFF = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"


def check_environment(environ: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Yield what there is to say about the variables that are set, and those that are not."""
    environ = os.environ if environ is None else environ
    yield from _check_settings(environ)
    yield from _check_unknown(environ)
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield problem("OTEL_SDK_DISABLED", "is true: OpenTelemetry does nothing", "unset OTEL_SDK_DISABLED")
    if environ.get("OTEL_CONFIG_FILE") or environ.get("OTEL_EXPERIMENTAL_CONFIG_FILE"):
        yield warning(
            "OTEL_CONFIG_FILE",
            "configures the pipelines, and is not looked into here",
            "see that the file names the exporter guard for logs, traces and metrics",
        )
    else:
        for variable in _SIGNALS:
            yield _check_exporter(variable, environ)
    disabled = {name.strip() for name in environ.get(_SWITCHED_OFF, "").split(",")}
    for name in sorted(disabled & {"guard", "fastapi"}):
        yield warning(_SWITCHED_OFF, f"switches the instrumentation {name} off", f"take {name} out of {_SWITCHED_OFF}")
    if "http" not in environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", ""):
        yield warning(
            "OTEL_SEMCONV_STABILITY_OPT_IN",
            "is not http: request metrics have the client's Host header as an attribute",
            "set OTEL_SEMCONV_STABILITY_OPT_IN=http",
        )


def _check_settings(environ: Mapping[str, str]) -> Iterator[Finding]:
    for name in sorted(environ):
        if name.startswith(_OWN) and name in _KNOWN and environ[name]:
            yield ok(name, _shown(name, environ[name]))
    try:
        GuardConfig.resolve(environ)
    except SettingError as error:
        name, _, rest = str(error).partition(" ")
        yield problem(name, rest, f"correct or unset {name}: until then nothing is exported")
    for name in options.NAMES:
        variable = options.PREFIX + name.upper()
        if text := environ.get(variable, "").strip():
            try:
                options.GuardOptions.resolve({}, **{name: text})
            except ValueError as error:
                yield problem(variable, str(error).removeprefix(f"{name} "), f"correct or unset {variable}")
    if not environ.get(PREFIX + "API_KEY"):
        yield problem(PREFIX + "API_KEY", "is not set: batches wait in the queue", f"set {PREFIX}API_KEY")
    path = environ.get(PREFIX + "ENDPOINT", "").rstrip("/")
    if path.endswith("/api/v1"):
        yield warning(
            PREFIX + "ENDPOINT",
            "ends in /api/v1, which the exporters add themselves; it is taken off",
            f"set {PREFIX}ENDPOINT={mask_url(path.removesuffix('/api/v1'))}",
        )


def _check_unknown(environ: Mapping[str, str]) -> Iterator[Finding]:
    for name in sorted(environ):
        if name.startswith(_OWN) and name not in _KNOWN:
            near = difflib.get_close_matches(name, _KNOWN, n=1)
            remedy = (
                f"did you mean {near[0]}?" if near else f"unset it; opentelemetry-instrument --help lists {PREFIX}*"
            )
            yield problem(name, "is no setting of this release, so it has no effect", remedy)


def _check_exporter(variable: str, environ: Mapping[str, str]) -> Finding:
    names = [name.strip() for name in environ.get(variable, "").split(",") if name.strip()]
    known = {point.name for point in entry_points(group=_SIGNALS[variable])} | {"none"}
    if missing := [name for name in names if name not in known]:
        return problem(
            variable,
            f"names the exporter {missing[0]}, which is not installed; no telemetry starts then",
            f"install its package (pip install opentelemetry-exporter-{missing[0]}), or take it out of {variable}",
        )
    remedy = f"set {variable}={','.join([*(name for name in names if name != 'none'), 'guard'])}"
    if "guard" in names:
        return ok(variable, ",".join(names))
    if not names:
        return problem(variable, "is not set: the exporter guard is not selected", remedy)
    if variable == "OTEL_LOGS_EXPORTER":
        return problem(variable, f"is {','.join(names)}: the exporter guard is not selected, events get lost", remedy)
    return warning(variable, f"is {','.join(names)}: the exporter guard is not selected", remedy)


def _shown(name: str, value: str) -> str:
    if any(word in name for word in _SECRET) and not name.endswith("CLIENT_KEY"):
        return "is set"
    return mask_url(value) if "://" in value else value
