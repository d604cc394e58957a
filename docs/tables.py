"""Write what is made from the settings' declarations: tables of the documents, names of variables. ``make tables``.

A document says where a table stands::

    <!-- settings: exporters -->
    <!-- /settings -->
"""

from __future__ import annotations

import re
from pathlib import Path

from opentelemetry_guard.settings import environment_variables
from opentelemetry_guard.settings.delivery import GuardConfig
from opentelemetry_guard.settings.instrumentation import GuardOptions
from opentelemetry_guard.settings.privacy import PrivacySettings
from opentelemetry_guard.settings.table import SETTINGS, markdown

ROOT = Path(__file__).parents[1]
TABLES = {"exporters": markdown(GuardConfig), "instrumentation": markdown(GuardOptions, PrivacySettings)}
_PLACE = re.compile(r"(<!-- settings: (\w+) -->\n).*?(<!-- /settings -->)", re.DOTALL)


def written(text: str) -> str:
    """Return a document's text with its tables as they are now."""
    return _PLACE.sub(lambda place: f"{place[1]}{TABLES[place[2]]}{place[3]}", text)


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
