"""Write what is made from declarations: tables of the documents, names of variables. ``make tables``.

A document says where a table stands::

    <!-- settings: exporters -->
    <!-- /settings -->

    <!-- semconv: event -->
    <!-- /semconv -->
"""

from __future__ import annotations

import re
from pathlib import Path

from opentelemetry_guard.semconv import EVENT_ATTRIBUTES
from opentelemetry_guard.settings import environment_variables
from opentelemetry_guard.settings.delivery import GuardConfig
from opentelemetry_guard.settings.instrumentation import GuardOptions
from opentelemetry_guard.settings.privacy import PrivacySettings
from opentelemetry_guard.settings.table import SETTINGS, markdown

ROOT = Path(__file__).parents[1]


def attributes() -> str:
    """Return the attributes of an event as a table, the most important first."""
    rows = (f"| `{known.name}` | `{known.place}` | {known.meaning} |" for known in reversed(EVENT_ATTRIBUTES))
    return "\n".join(("| attribute | field of the event | |", "|---|---|---|", *rows, ""))


TABLES = {
    "settings: exporters": markdown(GuardConfig),
    "settings: instrumentation": markdown(GuardOptions, PrivacySettings),
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
    names = [found.variable for found in SETTINGS if found.variable]
    return f'"""{environment_variables.__doc__}"""\n\n' + "".join(f'{name} = "{name}"\n' for name in names)


if __name__ == "__main__":
    for path in documents():
        path.write_text(written(path.read_text()))
    Path(environment_variables.__file__).write_text(variables())
