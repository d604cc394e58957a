"""Whether the environment variables say what somebody who wants events to arrive would say."""

from __future__ import annotations

import difflib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points

from ...queue.url import check_queue_url
from ...settings.delivery import PREFIX, GuardConfig
from ...settings.durable import PREFIX as DURABLE_PREFIX
from ...settings.instrumentation import GuardOptions
from ...settings.setting import SettingError
from ...settings.table import GROUPS, SETTINGS, variables
from ...settings.urls import mask_url
from ..run import DEFAULTS
from . import config_file
from .config_file import Declared
from .finding import Finding, ok, problem, warning

_SIGNALS = {
    "OTEL_LOGS_EXPORTER": "opentelemetry_logs_exporter",
    "OTEL_TRACES_EXPORTER": "opentelemetry_traces_exporter",
    "OTEL_METRICS_EXPORTER": "opentelemetry_metrics_exporter",
}
"""The variable of each signal, and the group of the entry points that it names."""

_OWN = (*{group.PREFIX for group in GROUPS}, DURABLE_PREFIX)
_KNOWN = {found.variable: found for found in SETTINGS if found.variable}
_PROXIES = "OTEL_PYTHON_GUARD_TRUSTED_PROXIES"
_SWITCHED_OFF = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
_STABLE_NAMES = "OTEL_SEMCONV_STABILITY_OPT_IN"
_ATTRIBUTES_OF_CLIENTS = "request metrics have the client's Host header as an attribute"


def check_environment(declared: Declared | None, environ: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Yield what there is to say about the variables that are set, and those that are not.

    Args:
        declared: what the declarative configuration says; None where there is none.
        environ: the variables; None are the process's own.
    """
    environ = os.environ if environ is None else environ
    yield from _check_settings(environ, declared.settings if declared else {})
    yield from _check_unknown(environ)
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield problem("OTEL_SDK_DISABLED", "is true: OpenTelemetry does nothing", "unset OTEL_SDK_DISABLED")
    yield from _check_extras(environ)
    if declared is not None:
        yield from declared.findings
    else:
        for variable in _SIGNALS:
            if environ.get(variable):
                yield from _check_exporters(variable, environ)
    yield from _check_start(environ, [_STABLE_NAMES] if declared is not None else [*_SIGNALS, _STABLE_NAMES])
    disabled = {name.strip() for name in environ.get(_SWITCHED_OFF, "").split(",")}
    for name in sorted(disabled & {"guard", "fastapi"}):
        yield warning(_SWITCHED_OFF, f"switches the instrumentation {name} off", f"take {name} out of {_SWITCHED_OFF}")
    if environ.get(_STABLE_NAMES) and "http" not in environ[_STABLE_NAMES]:
        yield warning(_STABLE_NAMES, f"is not http: {_ATTRIBUTES_OF_CLIENTS}", f"set {_STABLE_NAMES}=http")


def uses_guard(environ: Mapping[str, str]) -> bool:
    """Whether anything in the environment speaks of a Guard backend: one of its settings, or its exporter."""
    named = {name.strip() for variable in _SIGNALS for name in environ.get(variable, "").split(",")}
    return "guard" in named or any(environ.get(found.variable or "") for found in GuardConfig.settings().values())


def _check_start(environ: Mapping[str, str], variables: list[str]) -> Iterator[Finding]:
    """Say which start commands the environment does for: `run` sets what is not set, opentelemetry-instrument nothing.

    Where some of the exporters are chosen, it seems to be made for the latter.
    """
    unset = [variable for variable in variables if not environ.get(variable)]
    if not unset:
        yield ok("start command", "opentelemetry-guard run and opentelemetry-instrument find all that they need")
    elif not set(_SIGNALS) <= set(unset):
        for variable in unset:
            what = "the exporter guard is not selected" if variable in _SIGNALS else _ATTRIBUTES_OF_CLIENTS
            yield warning(
                variable,
                f"is not set: under opentelemetry-instrument {what}; opentelemetry-guard run sets it",
                f"set {variable}={DEFAULTS[variable]}, or start with opentelemetry-guard run",
            )
    else:
        yield ok(
            "start command",
            f"opentelemetry-guard run sets {', '.join(unset)} itself. For opentelemetry-instrument set them as "
            "opentelemetry-guard run --show -- COMMAND prints them; opentelemetry_guard.configure() needs none of them",
        )


def _check_extras(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the settings whose packages are missing; those of encryption and queues tell it when they are read."""
    variable = GuardOptions.settings()["resource_metrics"].variable or ""
    wanted = environ.get(variable, "").strip().lower() == "true"
    if wanted and importlib.util.find_spec("psutil") is None:
        text = "is true, but CPU, memory, threads and open files can't be read: only the event loop's lag is measured"
        yield warning(variable, text, "pip install 'opentelemetry-guard[resources]'")


def _check_settings(environ: Mapping[str, str], declared: Mapping[str, object]) -> Iterator[Finding]:
    wrong: set[str] = set()
    for variable, found in sorted(_KNOWN.items()):
        text = environ.get(variable, "")
        if found.is_unset(text):
            continue
        try:
            found.parse(text, from_environment=True)
        except SettingError as error:
            wrong.add(variable)
            yield _wrong(variable, error)
        else:
            yield ok(variable, "is set" if found.declared.secret else _shown(variable, text))
    if not environ.get(_PROXIES, "").strip():
        yield ok(
            _PROXIES,
            "is not set: X-Forwarded-For is ignored. Behind a proxy all clients have its address then: "
            f"set {_PROXIES} to the proxy's address or network",
        )
    key: str | None = None
    try:
        key = GuardConfig.resolve(environ, **declared).api_key
    except (SettingError, TypeError) as error:
        if not isinstance(error, SettingError) or not error.from_environment:
            what = f"its exporter guard can't be made: {error}"
            yield problem(config_file.VARIABLE, what, "correct the file: until then nothing is exported")
        elif (name := str(error).partition(" ")[0]) not in wrong:
            yield _wrong(name, error)  # settings that don't go together
    if key is None and not environ.get(PREFIX + "API_KEY", "").strip():
        yield problem(
            PREFIX + "API_KEY",
            "is not set: batches wait in the queue; opentelemetry-guard run --local brings a key of its own",
            f"set {PREFIX}API_KEY",
        )
    path = environ.get(PREFIX + "ENDPOINT", "").rstrip("/")
    if path.endswith("/api/v1"):
        yield warning(
            PREFIX + "ENDPOINT",
            "ends in /api/v1, which the exporters add themselves; it is taken off",
            f"set {PREFIX}ENDPOINT={mask_url(path.removesuffix('/api/v1'))}",
        )


def _wrong(variable: str, error: SettingError) -> Finding:
    stops = ": until then nothing is exported" if variable.startswith(PREFIX) else ""
    return problem(variable, str(error).removeprefix(f"{variable} "), f"correct or unset {variable}{stops}")


def _check_unknown(environ: Mapping[str, str]) -> Iterator[Finding]:
    known = variables()
    for name in sorted(environ):
        if name.startswith(_OWN) and name not in known:
            near = _meant(name)
            remedy = (
                f"did you mean {near}?" if near else f"unset {name}; opentelemetry-instrument --help lists them all"
            )
            yield problem(name, "is no setting of this release, so it has no effect", remedy)


def _meant(name: str) -> str | None:
    """Return the setting that a name is a misspelling of; prefixes, which all have in common, don't count."""
    own = {known: _without_prefix(known) for known in variables()}
    near = difflib.get_close_matches(_without_prefix(name), own.values(), n=1, cutoff=0.7)
    return next((known for known, short in own.items() if short in near), None)


def _without_prefix(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in _OWN if name.startswith(prefix)), name)


def _check_exporters(variable: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    names = [name.strip() for name in environ.get(variable, "").split(",") if name.strip()]
    known = {point.name for point in entry_points(group=_SIGNALS[variable])} | {"none"}
    for missing in (name for name in names if name not in known):
        yield problem(
            variable,
            f"names the exporter {missing}, which is not installed; no telemetry starts then",
            f"install its package (pip install opentelemetry-exporter-{missing}), or take it out of {variable}",
        )
    others = [name for name in names if name in known and name != "none"]
    remedy = f"set {variable}={','.join([*others, 'guard'])}"
    if "guard" in names:
        yield ok(variable, ",".join(names))
    elif not names:
        yield problem(variable, "is blank: the exporter guard is not selected", remedy)
    elif variable == "OTEL_LOGS_EXPORTER":
        yield problem(variable, f"is {','.join(names)}: the exporter guard is not selected, events get lost", remedy)
    else:
        yield warning(variable, f"is {','.join(names)}: the exporter guard is not selected", remedy)


def _shown(variable: str, text: str) -> str:
    if variable == PREFIX + "QUEUE_URL":
        try:
            check_queue_url(text)
        except ValueError:
            return "is set"  # where a password stands in it is not known
    return mask_url(text) if "://" in text else text
