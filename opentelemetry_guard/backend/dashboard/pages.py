"""The pages that have little of their own: sign-in, overview, agents; and what all pages have in common.

What a page shows comes out of the store through pure functions (`overview`,
`search`, `views`, `chart`, `rules_form`) and goes through templates that
escape everything. Nothing is loaded from anywhere else.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ...events.names import name_of
from ...version import __version__
from ..askers import Askers
from ..clock import UTC, Clock
from ..refusal import Refusal
from ..settings import DEFAULT_PROJECT, BackendSettings
from ..storage.overview import WINDOWS, Window, overview
from ..storage.paging import Cursor, ListedT, Page
from ..storage.search import EventSearch
from ..storage.store import Store
from .chart import chart_of, number_text
from .views import SHOWN_AGENTS, agent_view, duration, milliseconds, percent, visible
from .visitors import FORM_TOKEN, Visitors

_HERE = Path(__file__).parent

ZONE_COOKIE = "guard_zone"
"""The cookie that keeps the visitor's time zone, by its name."""

STATIC_DIRECTORY = _HERE / "static"
"""The style sheet and the scripts."""

# One slash, then what RFC 3986 allows in a path and a query, but never two slashes in a row before the query: browsers
# take those, and backslashes, for the beginning of a host.
_SEGMENT = r"[A-Za-z0-9._~!$&'()*+,;=:@%-]+"
_OWN_PATH = re.compile(rf"/(?:{_SEGMENT}(?:/{_SEGMENT})*/?)?(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?")


def address(path: str, **parameters: object) -> str:
    """Return a path of this server with a query."""
    return f"{path}?{urlencode(parameters)}"


def paging(request: Request, asked: Mapping[str, str], before: Cursor | None, page: Page[ListedT]) -> dict[str, object]:
    """Return what the links between the pages of a list need, and what says how far a look came.

    Args:
        request: of whom the times are told.
        asked: the parameters that say which list it is.
        before: where this page begins; None for the first.
        page: what is on it.
    """
    older = page.older
    return {
        "older": None if older is None else address("", **asked, before=str(older)),
        "first_page": before is None,
        "query": address("", **asked),
        "looked_at": page.looked_at,
        "reached": "" if older is None else clock_of(request).text(older.occurred_at),
    }


class Pages:
    """Renders templates with what every page needs."""

    def __init__(self, store: Store, settings: BackendSettings, visitors: Visitors, askers: Askers) -> None:
        """Render for the data of `store`, and for what `askers` knows."""
        self.store, self.settings, self.visitors, self.askers = store, settings, visitors, askers
        self.search = EventSearch(store.database)
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "duration": duration,
            "milliseconds": milliseconds,
            "name": name_of,
            "percent": percent,
            "rate": number_text,
            "shell": shlex.quote,
            "visible": visible,
        }
        self._templates.globals |= {"form_token_field": FORM_TOKEN, "release": __version__}

    def projects(self, request: Request) -> list[str]:
        """Return the projects that the visitor can look at."""
        viewed = self.visitors.viewed(request)
        if viewed is not None:
            return [viewed]
        return sorted({*self.search.projects(), *self.settings.keys.project_ids}) or [DEFAULT_PROJECT]

    def project(self, request: Request) -> str:
        """Return the project that a request is about: the one it names, else the first that has one.

        Raises:
            Refusal: 404 for one that doesn't exist.
        """
        projects, asked = self.projects(request), request.query_params.get("project")
        if asked is None:
            configured = sorted({*self.settings.keys.project_ids, self.settings.project} & set(projects))
            return (configured or projects)[0]
        if asked not in projects:
            raise Refusal(404, "There is no such project: choose one from the list.")
        return asked

    def fragment(self, request: Request, template: str, project: str | None, /, **context: object) -> str:
        """Return a piece of a page of a project; of none where it is about nothing that is stored."""
        query = "" if project is None else address("", project=project)
        clock = clock_of(request)
        return self._templates.get_template(template).render(
            project=project, project_query=query, clock=clock, own_address=_own_address(request), **context
        )

    def page(
        self, request: Request, template: str, status: int = 200, /, project: str | None = None, **context: object
    ) -> Response:
        """Return a whole page of a project."""
        session = self.visitors.session(request)
        text = self.fragment(
            request,
            template,
            project,
            here_address=_asked(request),
            projects=self.projects(request) if project is not None else [],
            may_change=self.visitors.viewed(request) is None,
            form_token=self.visitors.form_token(session),
            signed_in=self.visitors.sign_in and session.signed_in,
            **context,
        )
        response = HTMLResponse(text, status_code=status)
        if not self.visitors.knows(request):
            self.visitors.set_cookie(request, response, session)
        return response

    def refused(self, request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
        """Return the page that says why there is no other one."""
        response = self.page(request, "error.html", status, detail=detail, status_code=status)
        response.headers.update(headers or {})
        return response


def clock_of(request: Request) -> Clock:
    """Return the clock of the time zone that the visitor has chosen."""
    try:
        return Clock(request.cookies.get(ZONE_COOKIE, UTC))
    except ValueError:
        # Chosen on another machine, or before its zones were updated.
        return Clock()


def _own_address(request: Request) -> str:
    """Return this backend's address as the visitor has it, for a shell."""
    return shlex.quote(f"{request.url.scheme}://{request.url.netloc}")


def _asked(request: Request) -> str:
    """Return the address of a page, to come back to; the first page after a form."""
    if request.method != "GET":
        return "/"
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def sign_in_router(pages: Pages) -> APIRouter:
    """Return the routes of the sign-in, which need none."""
    router, visitors = APIRouter(), pages.visitors

    @router.get("/login")
    def ask(request: Request) -> Response:
        """Ask for the password."""
        if visitors.may_see(request):
            return RedirectResponse("/", 303)
        return pages.page(request, "login.html", next=own_path(request.query_params.get("next")), error=None)

    @router.post("/login")
    async def sign_in(request: Request) -> Response:
        """Let in who knows the password."""
        fields = await visitors.form(request, of_viewers=True)
        following = own_path(fields.get("next"))
        if await run_in_threadpool(visitors.may_see, request):
            return RedirectResponse(following, 303)
        try:
            session = await visitors.try_password(request, fields.get("password", ""))
        except Refusal as refusal:
            again = pages.page(request, "login.html", refusal.status, next=following, error=refusal.detail)
            again.headers.update(refusal.headers or {})
            return again
        response = RedirectResponse(following, 303)
        visitors.set_cookie(request, response, session)
        return response

    @router.post("/logout")
    async def sign_out(request: Request) -> Response:
        """Forget the visitor."""
        await visitors.form(request, of_viewers=True)
        response = RedirectResponse("/login" if visitors.sign_in else "/", 303)
        await run_in_threadpool(visitors.sign_out, request, response)
        return response

    return router


def own_path(text: str | None) -> str:
    """Return a path of this server that a link asks to go to; the first page for anything else."""
    return text if text and _OWN_PATH.fullmatch(text) else "/"


def overview_router(pages: Pages) -> APIRouter:
    """Return the routes of the overview."""
    router = APIRouter()

    def figures(request: Request) -> dict[str, object]:
        found = overview(pages.store.database, pages.project(request), _window(request.query_params), time.time())
        return {"figures": found, "chart": chart_of(found, clock_of(request))}

    @router.get("/")
    def show(request: Request) -> Response:
        """Show the figures of a window."""
        project = pages.project(request)
        return pages.page(
            request, "overview.html", here="overview", project=project, windows=WINDOWS, **figures(request)
        )

    @router.get("/overview/figures")
    def refresh(request: Request) -> Response:
        """Give the figures alone, for the page that shows them already."""
        return HTMLResponse(pages.fragment(request, "figures.html", pages.project(request), **figures(request)))

    return router


def _window(query: QueryParams) -> Window:
    asked = query.get("window", WINDOWS[0].name)
    for window in WINDOWS:
        if window.name == asked:
            return window
    raise Refusal(422, f"The window must be one of {', '.join(window.name for window in WINDOWS)}.")


def agents_router(pages: Pages) -> APIRouter:
    """Return the routes of the installations that report."""
    router = APIRouter(prefix="/agents")

    def agents(project: str) -> dict[str, object]:
        now = time.time()
        asking = pages.askers.of(project, now)
        reporting = pages.store.agents(project)
        unreported = asking.keys() - {agent.install_id for agent in reporting}
        return {
            "agents": [
                agent_view(agent, asking.get(agent.install_id), now) for agent in reporting[: -SHOWN_AGENTS - 1 : -1]
            ],
            "asking": len(asking),
            "unreported": len(unreported),
            "newest_rules": pages.store.rules(project).version,
        }

    @router.get("")
    def show(request: Request) -> Response:
        """List the installations that report, the one seen last first."""
        project = pages.project(request)
        return pages.page(request, "agents.html", here="agents", project=project, **agents(project))

    @router.get("/list")
    def refresh(request: Request) -> Response:
        """Give the list alone, for the page that shows it already."""
        project = pages.project(request)
        return HTMLResponse(pages.fragment(request, "agents_list.html", project, **agents(project)))

    return router
