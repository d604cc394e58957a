"""The template of the route that answers a request, for one name of many paths.

Neither FastAPI nor Starlette is imported: what a request's scope and its
application offer is enough.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from ..patching import unexpected

_logger = logging.getLogger(__name__)

Scope = Mapping[str, Any]

_MOUNTED = "/{path}"
"""How the template of a mount ends."""
_MOST_MOUNTS = 16
"""Mounts in mounts that are looked through; one that is in itself has no end."""


_SCOPE_KEY = "opentelemetry_guard.route"
"""Key of a request's scope: its `Route`, None when the request has ended."""


class Route:
    """Finds the template of one request's route, with what its scope said before anybody answered."""

    __slots__ = ("_app", "_asked_before", "_path", "_root_path", "_scope")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._app = scope.get("app") or scope.get("router")
        self._asked_before = "router" in scope
        # A mount moves these on.
        self._path = scope.get("path", "")
        self._root_path = scope.get("root_path", "")

    def is_of(self, scope: Scope) -> bool:
        """Whether a scope says what it did here: whoever is between may have copied it, or led the request on."""
        return (
            scope is self._scope
            and self._app is not None
            and self._app is scope.get("app")
            and self._path == scope.get("path")
            and self._root_path == scope.get("root_path")
        )

    def enters(self, scope: Scope) -> None:
        """Learn of the application that the request enters, unless it is inside of one already."""
        if self._app is None:
            self._app = _router(scope)

    def template(self) -> str | None:
        """Return the template, as ``/items/{number}``; None where no route matches.

        It is what the router has found, where it was asked already. A request that a middleware answers never gets
        to the router, so the routes are asked here then; they only compare.
        """
        try:
            return self._found() or self._asked()
        except Exception as error:  # noqa: BLE001  routes may be anybody's classes
            unexpected(_logger, "a route could not be told, its requests bear their path", error, logging.DEBUG)
            return None

    def is_unmatched(self) -> bool:
        """Whether the router was asked since, and has noted no match: then there is no sense in asking it again."""
        scope = self._scope
        return "router" in scope and not (self._asked_before or "endpoint" in scope or "route" in scope)

    def _found(self) -> str | None:
        scope = self._scope
        route = scope.get("route")
        if route is None or hasattr(route, "routes"):
            return None  # not asked yet, or nothing is in the mount that was found
        if "fastapi" in scope:
            # FastAPI keeps the prefix of an included router beside the route.
            included = scope["fastapi"].get("effective_route_context")
            if getattr(included, "original_route", None) is route:
                route = included
        template = getattr(route, "path_format", None)
        if type(template) is not str:  # a call less for what most routes have
            template = _format(route)
        if template is None or scope.get("root_path", "") == self._root_path:
            return template
        mounts = self._mounts(scope["root_path"])
        return None if mounts is None else mounts + template

    def _mounts(self, root_path: str) -> str | None:
        """Return the template of the mounts that have led to `root_path`, None where others have set that.

        Only mounts are asked: a router has found one, so no route in front of it has matched.
        """
        scope, routes, template = self._asking(), getattr(self._app, "routes", ()), ""
        for _ in range(_MOST_MOUNTS):
            for route in _flat(routes):
                inner = getattr(route, "routes", None)
                if inner is not None and (matched := route.matches(scope))[0].name == "FULL":
                    scope, routes = {**scope, **matched[1]}, inner
                    template += (_format(route) or "").removesuffix(_MOUNTED)
                    break
            else:
                return None
            if scope["root_path"] == root_path:
                return template
        return None

    def _asked(self) -> str | None:
        return _match(getattr(self._app or _router(self._scope), "routes", ()), self._asking())

    def _asking(self) -> dict[str, Any]:
        """Return the scope of which routes are asked."""
        return {
            "type": self._scope["type"],
            "method": self._scope.get("method", "GET"),
            "path": self._path,
            "root_path": self._root_path,
            "headers": self._scope.get("headers", ()),
            "path_params": {},
        }


def begin(scope: MutableMapping[str, Any]) -> Route | None:
    """Note in a request's scope what is known of its route before anybody has answered.

    Returns:
        It; None where somebody around has noted it already.
    """
    if _SCOPE_KEY in scope:
        return None
    route = scope[_SCOPE_KEY] = Route(scope)
    return route


def begun(scope: Scope) -> Route:
    """Return what was noted of a request where that is still so, else what is known of its route now."""
    noted: Route | None = scope.get(_SCOPE_KEY)
    return noted if noted is not None and noted.is_of(scope) else Route(scope)


def end(scope: MutableMapping[str, Any]) -> None:
    """Leave a request's scope, which would keep the note alive, and this the scope, until the collector comes."""
    scope[_SCOPE_KEY] = None


def _router(scope: Scope) -> Any:
    """Return who has the routes: the application, or the router that is served without one."""
    return scope.get("app") or scope.get("router")


def _match(routes: Iterable[Any], scope: Scope) -> str | None:
    for route in _flat(routes):
        match, child_scope = route.matches(scope)
        if match.name != "FULL":
            continue
        inner_routes = getattr(route, "routes", None)
        if inner_routes is None:
            return _format(route)
        template = _format(route) or ""
        if not inner_routes:
            return template or None  # files, or an application that is no router
        inner = _match(inner_routes, {**scope, **child_scope})
        return None if inner is None else template.removesuffix(_MOUNTED) + inner
    return None


def _flat(routes: Iterable[Any]) -> Iterable[Any]:
    """Replace included routers, which FastAPI keeps as a tree since 0.137, by their routes."""
    flatten = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", None)
    return routes if flatten is None else flatten(routes)


def _format(route: object) -> str | None:
    template = getattr(route, "path_format", None) or getattr(route, "path", None)
    return template if isinstance(template, str) else None
