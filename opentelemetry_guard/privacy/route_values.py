"""Mask the values in a path that the template of its route names as secrets: ``/reset/{token}``."""

from __future__ import annotations

import re
from functools import lru_cache

from .scanning import mask_spans
from .sensitive_names import Names

_LONGEST = 512
"""Characters of a route's template: what is longer is a path that a client has made up."""
_PARAMETER = r"\{[A-Za-z_]\w*(?::[A-Za-z_]\w*)?\}"
_PARAMETERS = re.compile(rf"{_PARAMETER}(?:[^/]*{_PARAMETER})?")
"""The parameters of one segment of a template (`starlette.routing.compile_path`) and what is between them.

They are one value, so that a path is read in one way alone: the template may be one that a client has made up.
"""
_NAME = re.compile(r"\{(\w+)")


def names_secrets(route: str, names: Names) -> bool:
    """Whether a route is a template with a sensitive parameter."""
    return "{" in route and len(route) <= _LONGEST and bool(_secrets(route, names))


def mask_route_values(path: str, route: str, names: Names) -> str:
    """Return a path, or a URL with it, without the values of sensitive parameters of its route.

    Args:
        path: what a client asked for; what a proxy or a mounted application has put in front is no hindrance.
        route: the template that it matched, of which `names_secrets` holds.
        names: which parameters are sensitive.
    """
    found = _pattern(route)[0].search(path)
    if found is None:
        return path
    secrets = _secrets(route, names).items()
    return mask_spans(path, (found.span(number) for number, name in secrets if not names.spares(name, found[number])))


@lru_cache(maxsize=512)
def _secrets(route: str, names: Names) -> dict[int, str]:
    """Return which groups of a route's pattern are secrets, each with the name that says so."""
    groups = enumerate(_pattern(route)[1], 1)
    return {number: name for number, group in groups for name in reversed(group) if name in names}


@lru_cache(maxsize=512)
def _pattern(route: str) -> tuple[re.Pattern[str], tuple[tuple[str, ...], ...]]:
    """Return the pattern of a route's paths and the parameters of each of its groups.

    It ends behind a parameter that takes slashes too.
    """
    parts: list[str] = []
    groups: list[tuple[str, ...]] = []
    done = 0
    for segment in _PARAMETERS.finditer(route):
        takes_slashes = ":path}" in segment[0]
        parts += (re.escape(route[done : segment.start()]), "([^?#]+)" if takes_slashes else "([^/?#]+)")
        groups.append(tuple(_NAME.findall(segment[0])))
        done = segment.end()
        if takes_slashes:
            break
    else:
        parts.append(re.escape(route[done:]))
    return re.compile("".join(parts) + r"/?(?=[?#]|\Z)"), tuple(groups)
