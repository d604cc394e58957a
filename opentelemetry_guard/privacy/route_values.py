"""Mask the values in a path that the template of its route names as secrets: ``/reset/{token}``."""

from __future__ import annotations

import re
from functools import lru_cache

from .scanning import mask_spans
from .sensitive_names import Names

_PARAMETER = re.compile(r"\{(?P<name>[A-Za-z_]\w*)(?P<convertor>:[A-Za-z_]\w*)?\}")
"""A parameter in the template of a route (`starlette.routing.compile_path`)."""


@lru_cache(maxsize=512)
def names_secrets(route: str, names: Names) -> bool:
    """Whether a route is a template with a sensitive parameter."""
    return "{" in route and any(name in names for name in _pattern(route)[1])


def mask_route_values(path: str, route: str, names: Names) -> str:
    """Return a path, or a URL with it, without the values of sensitive parameters of its route.

    Args:
        path: what a client asked for; what a proxy or a mounted application has put in front is no hindrance.
        route: the template that it matched.
        names: which parameters are sensitive.
    """
    pattern, parameters = _pattern(route)
    secret = [number for number, name in enumerate(parameters, 1) if name in names]
    found = pattern.search(path) if secret else None
    if found is None:
        return path
    spans = (found.span(number) for number in secret if not names.spares(parameters[number - 1], found[number]))
    return mask_spans(path, spans)


@lru_cache(maxsize=512)
def _pattern(route: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """Return the pattern of a route's paths and the names of its groups.

    It ends behind a parameter that takes slashes too, so that it can't match one path in two ways.
    """
    parts: list[str] = []
    names: list[str] = []
    done = 0
    for parameter in _PARAMETER.finditer(route):
        takes_slashes = parameter["convertor"] == ":path"
        parts += (re.escape(route[done : parameter.start()]), "([^?#]+)" if takes_slashes else "([^/?#]+)")
        names.append(parameter["name"])
        done = parameter.end()
        if takes_slashes:
            break
    else:
        parts.append(re.escape(route[done:]))
    return re.compile("".join(parts) + r"/?(?=[?#]|\Z)"), tuple(names)
