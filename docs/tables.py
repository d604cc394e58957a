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
from collections.abc import Mapping, Sequence
from pathlib import Path

from opentelemetry_guard.semconv import EVENT_ATTRIBUTES
from opentelemetry_guard.settings import environment_variables
from opentelemetry_guard.settings.behavior_rules import PROFILES, BehaviorRules
from opentelemetry_guard.settings.delivery import GuardConfig
from opentelemetry_guard.settings.durable import DurableConfig
from opentelemetry_guard.settings.instrumentation import GuardOptions
from opentelemetry_guard.settings.privacy import PrivacySettings
from opentelemetry_guard.settings.table import VARIABLES, markdown

ROOT = Path(__file__).parents[1]


def attributes() -> str:
    """Return the attributes of an event as a table, the most important first."""
    rows = (f"| `{known.name}` | `{known.place}` | {known.meaning} |" for known in reversed(EVENT_ATTRIBUTES))
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


TABLES = {
    "settings: exporters": markdown(GuardConfig),
    "settings: instrumentation": markdown(GuardOptions, PrivacySettings),
    "settings: behavior": behavior(),
    "settings: durable": markdown(DurableConfig),
    "semconv: event": attributes(),
}
_PLACE = re.compile(r"(<!-- ((\w+): \w+) -->\n).*?(<!-- /\3 -->)", re.DOTALL)


def written(text: str) -> str:
    """Return a document's text with its tables as they are now."""
    return _PLACE.sub(lambda place: f"{place[1]}{TABLES[place[2]]}{place[4]}", text)


def documents() -> list[Path]:
    """Return the documents that have a table."""
    return [path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))) if _PLACE.search(path.read_text())]


def variables() -> str:
    """Return the source of the module of environment variables."""
    return f'"""{environment_variables.__doc__}"""\n\n' + "".join(f'{name} = "{name}"\n' for name in VARIABLES)


if __name__ == "__main__":
    for path in documents():
        path.write_text(written(path.read_text()))
    Path(environment_variables.__file__).write_text(variables())
