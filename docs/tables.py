"""Write what is made from declarations: tables of the documents, names of variables. ``make tables``.

A document says where a table stands::

    <!-- settings: exporters -->
    <!-- /settings -->

    <!-- semconv: event -->
    <!-- /semconv -->
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic.fields import FieldInfo

from opentelemetry_guard.events import known
from opentelemetry_guard.events.enrichment import (
    CORRELATION_KEY,
    DEPLOYMENT_ENVIRONMENT,
    RECENT_EVENT_COUNT,
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    THREAT_SCORE,
)
from opentelemetry_guard.events.known import KNOWN
from opentelemetry_guard.instruments import INSTRUMENTS, OWN
from opentelemetry_guard.models import SecurityEvent
from opentelemetry_guard.semconv import EVENT_ATTRIBUTES
from opentelemetry_guard.settings import environment_variables
from opentelemetry_guard.settings.behavior_rules import PROFILES, BehaviorRules
from opentelemetry_guard.settings.delivery import GuardConfig
from opentelemetry_guard.settings.durable import DurableConfig
from opentelemetry_guard.settings.instrumentation import GuardOptions
from opentelemetry_guard.settings.privacy import PrivacySettings
from opentelemetry_guard.settings.table import markdown, variables
from opentelemetry_guard.siem.cef import cef
from opentelemetry_guard.siem.ecs import ecs
from opentelemetry_guard.siem.ocsf import ocsf

ROOT = Path(__file__).parents[1]


def attributes() -> str:
    """Return the attributes of an event as a table, the most important first."""
    rows = (f"| `{each.name}` | `{each.place}` | {each.meaning} |" for each in reversed(EVENT_ATTRIBUTES))
    return "\n".join(("| attribute | field of the event | |", "|---|---|---|", *rows, ""))


def behavior() -> str:
    """Return the table of the behavioural analysis's rules, with their values in each profile."""
    profiles = {name: BehaviorRules.resolve(None, name) for name in PROFILES}
    rows = [f"| rule | {' | '.join(profiles)} | meaning |", f"|---{'|---' * len(profiles)}|---|"]
    for field in dataclasses.fields(BehaviorRules):
        values = [getattr(rules, field.name) for rules in profiles.values()]
        if dataclasses.is_dataclass(values[0]):
            for part in dataclasses.fields(values[0]):
                meaning = _attributes(type(values[0]))[part.name]
                rows.append(_row(f"{field.name}.{part.name}", [getattr(value, part.name) for value in values], meaning))
        else:
            rows.append(_row(field.name, values, _attributes(BehaviorRules)[field.name]))
    return "\n".join(rows) + "\n"


def _row(name: str, values: Sequence[object], meaning: str) -> str:
    shown = (
        f"{value:g}" if isinstance(value, float) else str(list(value) if isinstance(value, tuple) else value)
        for value in values
    )
    return f"| `{name}` | {' | '.join(shown)} | {meaning} |"


def _attributes(kind: type) -> Mapping[str, str]:
    """Return what a class's docstring says of its attributes."""
    text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, re.MULTILINE)
    return {name: " ".join(meaning.split()).rstrip(".") for name, meaning in found}


def event_fields() -> str:
    """Return the fields of an event as they are on the wire."""
    meanings = {each.place: each.meaning for each in EVENT_ATTRIBUTES} | FIELDS
    rows = (
        f"| `{name}` | {_type_of(field)} | {_default_of(field)} | {meanings[name]} |"
        for name, field in SecurityEvent.model_fields.items()
    )
    return "\n".join(("| field | type | default | |", "|---|---|---|---|", *rows, ""))


def event_types() -> str:
    """Return the types of events that the contract names, the most severe first."""
    ordered = sorted(KNOWN.items(), key=lambda item: (-item[1].severity, item[0]))
    rows = (f"| `{name}` | {meaning.severity} | {BEHAVIORS[meaning.behavior]} |" for name, meaning in ordered)
    return "\n".join(("| type | severity | what a client does |", "|---|---|---|", *rows, ""))


def metric_types() -> str:
    """Return the types of metrics with their instruments."""
    rows = (
        f"| `{name}` | `{made.name}` | `{made.unit}` | {'a sum' if made.adds_up else 'a distribution'} |"
        f" {made.description} |"
        for name, made in INSTRUMENTS.items()
    )
    return "\n".join(("| type | instrument | unit | is | |", "|---|---|---|---|---|", *rows, ""))


def instruments() -> str:
    """Return the instruments with which this package tells of itself."""
    rows = (
        f"| `{made.name}` | `{made.unit}` | {made.description} | {', '.join(f'`{name}`' for name in made.attributes)} |"
        for made in OWN.values()
    )
    return "\n".join(("| instrument | unit | what it tells | by |", "|---|---|---|---|", *rows, ""))


def siem_types() -> str:
    """Return what each type of events is to others; where it was stopped, and after a slash where it was not."""
    rows = []
    for name in sorted(KNOWN):
        stopped, seen = ({"event_type": name, "endpoint": "/", "action_taken": each} for each in ("blocked", "logged"))
        controls = " / ".join(f"{one['action_id']}, {one['disposition_id']}" for one in _distinct(ocsf, stopped, seen))
        documents: list[Any] = [ecs(stopped)["event"], ecs(seen)["event"]]
        outcomes = " / ".join(dict.fromkeys(f"{one['type'][0]}, {one['outcome']}" for one in documents))
        kind = f"{documents[0]['kind']}: {', '.join(documents[0]['category'])}"
        severity = cef(stopped).split("|")[6]
        rows.append(f"| `{name}` | {ocsf(stopped)['class_name']} | {controls} | {kind} | {outcomes} | {severity} |")
    head = "| type | OCSF class | action, disposition | ECS kind: category | type, outcome | CEF |"
    return "\n".join((head, "|---|---|---|---|---|---|", *rows, ""))


def _distinct(mapped: Callable[[Mapping[str, object]], Any], *rows: Mapping[str, object]) -> list[Any]:
    found = [mapped(row) for row in rows]
    return found[:1] if found[0]["disposition_id"] == found[-1]["disposition_id"] else found


_PROBE: dict[str, Any] = {
    "idempotency_key": "0197a1b2-c3d4-7e5f-8a6b-1c2d3e4f5a6b",
    "event_type": "access_denied",
    "ip_address": "203.0.113.7",
    "country": "NL",
    "user_agent": "probe/1",
    "action_taken": "probe_action",
    "reason": "probe reason",
    "endpoint": "/probe",
    "method": "GET",
    "status_code": 403,
    "decorator_type": "probe_decorator",
    "rule_type": "probe_rule",
    "pattern_matched": "probe_pattern",
    "handler_name": "probe_handler",
}
_PROBE_METADATA: dict[str, Any] = {
    "user": "probe_user",
    "category": "probe_category",
    "trace_id": "af7651916cd43dd8448eb211c80319c0",
    "span_id": "b7ad6b7169203331",
    THREAT_SCORE: 77,
    CORRELATION_KEY: "0f1e2d3c4b5a6978",
    RECENT_EVENT_COUNT: 31,
    SERVICE_NAME: "probe_service",
    SERVICE_VERSION: "9.8.7",
    SERVICE_INSTANCE_ID: "probe_instance",
    DEPLOYMENT_ENVIRONMENT: "probe_environment",
}


def siem_fields() -> str:
    """Return where each field of an event is in the formats: a row is mapped, and its values are looked for."""
    row = {**_PROBE, "timestamp": "2026-01-02T03:04:05Z", "metadata": _PROBE_METADATA}
    pairs = re.findall(r"(?:^| )(\w+)=((?:[^=\\]|\\.)*?)(?= \w+=|$)", cef(row).split("|", 7)[7])
    formats = [dict(_leaves(ocsf(row))), dict(_leaves(ecs(row))), dict(pairs)]
    rows = []
    for name, value in [*_PROBE.items(), *((f"metadata.{key}", value) for key, value in _PROBE_METADATA.items())]:
        places = [", ".join(f"`{place}`" for place, told in found.items() if str(told) in (str(value), f"{value}.0"))
                  for found in formats]  # fmt: skip
        rows.append(f"| `{name}` | {' | '.join(places)} |")
    return "\n".join(("| field of the event | OCSF | ECS | CEF |", "|---|---|---|---|", *rows, ""))


def _leaves(value: object, place: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{place}.{name}".lstrip("."))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, f"{place}[]")
    else:
        yield place, value


FIELDS = {
    "timestamp": "when it happened, ISO 8601 in UTC",
    "endpoint": "the path, or the template of the route",
    "metadata": "what else there is to know: `trace_id` and `span_id`, and whatever was given",
}
"""What fields mean that are no attribute of their own, or two."""

BEHAVIORS = {
    known.ATTACK: "attacks, or seems to",
    known.LOGON: "fails to sign in",
    known.FLOODING: "asks too much",
    known.REFUSED: "is turned away",
    known.MISUSE: "breaks a rule of the application",
    known.PATTERN: "shows a pattern over time",
    known.OPERATION: "nothing: the guard itself reports",
}


_WORDS = {"str": "text", "int": "integer", "datetime": "time", "dict": "object"}


def _type_of(field: FieldInfo) -> str:
    """Return a field's type in JSON's words."""
    members = [member for member in get_args(field.annotation) if member is not NoneType] or [field.annotation]
    member = get_args(members[0])[0] if get_origin(members[0]) is Annotated else members[0]
    name = (dict if field.default_factory is dict else member).__name__
    return _WORDS.get(name, "number") + (" or null" if NoneType in get_args(field.annotation) else "")


def _default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "`{}`" if field.default_factory is dict else "made"
    return "null" if field.default is None else f"`{field.default!r}`"


TABLES = {
    "model: event": event_fields(),
    "model: types": event_types(),
    "model: metrics": metric_types(),
    "settings: exporters": markdown(GuardConfig),
    "settings: instrumentation": markdown(GuardOptions, PrivacySettings),
    "settings: behavior": behavior(),
    "settings: durable": markdown(DurableConfig),
    "semconv: event": attributes(),
    "semconv: instruments": instruments(),
    "siem: types": siem_types(),
    "siem: fields": siem_fields(),
}
_PLACE = re.compile(r"(<!-- ((\w+): \w+) -->\n).*?(<!-- /\3 -->)", re.DOTALL)


def written(path: Path) -> str:
    """Return a document's text with its tables as they are now; links are as seen from where the document is."""

    def table(place: re.Match[str]) -> str:
        made = TABLES[place[2]]
        return f"{place[1]}{made.replace('](docs/', '](') if path.parent.name == 'docs' else made}{place[4]}"

    return _PLACE.sub(table, path.read_text())


def documents() -> list[Path]:
    """Return the documents that have a table."""
    return [path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))) if _PLACE.search(path.read_text())]


def module_of_variables() -> str:
    """Return the source of the module of environment variables."""
    return f'"""{environment_variables.__doc__}"""\n\n' + "".join(f'{name} = "{name}"\n' for name in variables())


if __name__ == "__main__":
    for path in documents():
        path.write_text(written(path))
    Path(environment_variables.__file__).write_text(module_of_variables())
