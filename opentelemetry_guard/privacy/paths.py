"""Mask secrets in URLs: parameters of the query, segments that look like keys, and what a route's template names.

The values in a path are secrets where the template of its route says so: ``/reset/{token}``.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ..settings.mask import MASK
from .hashed_addresses import HASHED_ADDRESS
from .scanning import mask_spans
from .sensitive_names import Names

_KEY_LENGTH = 20
_SEGMENT = re.compile(r"(?<=/)[A-Za-z0-9_.~-]{6,}")
_ANNOUNCED = re.compile(
    r"(?:[spar]k|key|token|secret|api[_-]?(?:key|token|secret))[_.-].*(?:[A-Za-z]{2}[0-9]|[0-9][A-Za-z]{2})",
    re.IGNORECASE,
)
_SHORTEST_ANNOUNCED = 10
_SLUG = re.compile(r"[a-z]{2,20}(?:-[a-z]{2,20}){1,8}(?:-[a-z0-9]{1,8})?|[a-z]{2,20}-[0-9]{1,4}")
"""What names a thing in a list of tokens that are no secrets, such as currencies: words and a number behind them."""
_PIECE = re.compile(r"[A-Za-z0-9]+")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_TURN = re.compile(r"[0-9](?=[A-Za-z])|[A-Za-z](?=[0-9])")
_LONGEST_ROUTE = 512
"""Characters of a route's template: what is longer is a path that a client has made up."""
_PARAMETER = r"\{[A-Za-z_]\w*(?::[A-Za-z_]\w*)?\}"
_PARAMETERS = re.compile(rf"{_PARAMETER}(?:[^/]*{_PARAMETER})?")
"""The parameters of one segment of a template (`starlette.routing.compile_path`) and what is between them.

They are one value, so that a path is read in one way alone: the template may be one that a client has made up.
"""
_NAME = re.compile(r"\{(\w+)")


def mask_path(text: str, names: Names) -> str:
    """Return a URL or a path without the segments that look like keys.

    Those are long mixes of letters and digits that are no UUIDs, shorter ones that begin with ``sk-``, ``key_`` and
    the like, and what follows a segment with a sensitive name, as in ``/reset-password/k3vT9q``.
    """

    def masked(found: re.Match[str]) -> str:
        path, start, segment = found.string, found.start(), found[0]
        if HASHED_ADDRESS.fullmatch(segment):
            return segment
        if _is_varied(segment):
            before = path[path.rfind("/", 0, start - 1) + 1 : start - 1] if start > 1 else ""
            name = before if before in names else before.removesuffix("s")
            if (
                name in names
                and not names.spares(name, segment)
                and not (name == "tokens" and _SLUG.fullmatch(segment))
            ):
                return MASK
        return MASK if _looks_like_key(segment) else segment

    return _SEGMENT.sub(masked, text)


def mask_query(text: str, names: Names) -> str:
    """Return a URL, or a query alone, without the values of sensitive parameters.

    A value goes on to the next parameter: what writes URLs into telemetry may have decoded it, so that blanks and
    quotes don't end it, and what has no name may be a value's rest.
    """
    before, mark, query = text.partition("?")
    if not mark:
        if text[:1] == "/" or "://" in text:
            return text
        before, query = "", text
    parameters = query.split("&")
    rest_of_secret = False
    for position, parameter in enumerate(parameters):
        name, separator, value = parameter.partition("=")
        if separator:
            rest_of_secret = name in names and any(map(str.isalnum, value)) and not names.spares(name, value)
            if rest_of_secret:
                parameters[position] = f"{name}={MASK}"
        elif rest_of_secret and parameter:
            parameters[position] = MASK
    return f"{before}{mark}{'&'.join(parameters)}"


def names_secrets(route: str, names: Names) -> bool:
    """Whether a route is a template with a sensitive parameter."""
    return "{" in route and len(route) <= _LONGEST_ROUTE and bool(_secrets(route, names))


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


def _is_varied(segment: str) -> bool:
    """Whether letters and digits, or capitals and small letters, are mixed: neither a word nor a number is."""
    if segment.lower() != segment != segment.upper():
        return True
    return any(map(str.isdigit, segment)) and any(map(str.isalpha, segment))


def _looks_like_key(segment: str) -> bool:
    if _UUID.fullmatch(segment):
        return False
    if len(segment) >= _SHORTEST_ANNOUNCED and _ANNOUNCED.match(segment):
        return True
    mixed = [piece for piece in _PIECE.findall(segment) if _TURN.search(piece)] if len(segment) >= _KEY_LENGTH else []
    turns = sum(len(_TURN.findall(piece)) for piece in mixed)
    return sum(map(len, mixed)) >= _KEY_LENGTH and turns >= 4


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
