"""All settings there are, and the tables of the documentation that come from them."""

from __future__ import annotations

from collections.abc import Mapping

from .delivery import GuardConfig
from .instrumentation import GuardOptions
from .privacy import PrivacySettings
from .setting import Group, Setting

GROUPS: tuple[type[Group], ...] = (GuardConfig, GuardOptions, PrivacySettings)
"""The groups of settings, in the order of the documentation."""

SETTINGS: tuple[Setting, ...] = tuple(found for group in GROUPS for found in group.settings().values())
"""Every setting; no two have a name in common."""

BY_NAME: Mapping[str, Setting] = {found.name: found for found in SETTINGS}


def variables() -> list[str]:
    """Return every environment variable. The durable exporters' settings have names that Guard's have too."""
    # Imported here: an exporter looks settings up by name, and most processes have no durable exporter.
    from .durable import DurableConfig

    groups: tuple[type[Group], ...] = (*GROUPS, DurableConfig)
    return [found.variable for group in groups for found in group.settings().values() if found.variable]


def markdown(*groups: type[Group]) -> str:
    """Return the table of the settings of `groups` that have a variable, as the documentation shows it."""
    rows = [f"| variable `{groups[0].PREFIX}...` | meaning | default |", "|---|---|---|"]
    for group in groups:
        for found in group.settings().values():
            if found.variable:
                name = found.variable.removeprefix(group.PREFIX)
                rows.append(f"| `{name}` | {found.declared.meaning} | {_default(found)} |")
    return "\n".join(rows) + "\n"


def _default(found: Setting) -> str:
    if found.declared.shown is not None:
        return found.declared.shown
    if found.default is None:
        return ""
    if isinstance(found.default, bool):
        return f"`{str(found.default).lower()}`"
    if isinstance(found.default, str):
        return f"`{found.default}`"
    return f"{found.default:g}" if isinstance(found.default, float) else str(found.default)
