"""The pages: overview, events, agents and rules, made on the server; a small script keeps them fresh.

What a page shows comes out of the store through pure functions (`overview`,
`search`, `views`, `chart`, `rules_form`) and goes through templates that
escape everything. Nothing is loaded from anywhere else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import QueryParams
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from ...models import DynamicRules
from ...version import __version__
from ..bans import with_ban
from ..refusal import Refusal
from ..settings import DEFAULT_PROJECT, BackendSettings
from ..storage.overview import WINDOWS, Window, overview
from ..storage.search import Cursor, EventFilter, EventSearch
from ..storage.store import FIRST_TTL, RulesConflict, Store
from .chart import chart_of, number_text
from .export import csv_lines, json_lines
from .rules_form import RulesForm, changes_between, form_of, read_form
from .views import (
    SHOWN_AGENTS,
    AgentView,
    agent_view,
    ago,
    day_and_time,
    event_detail,
    event_view,
    milliseconds,
    percent,
    visible,
)
from .visitors import FORM_TOKEN, Visitors

_HERE = Path(__file__).parent

STATIC_DIRECTORY = _HERE / "static"
"""The style sheet and the scripts."""

PAGE_EVENTS = 50
"""Lines of the table of events."""

_LIVE_REACH = 5_000
"""How many of the newest rows one look for new events goes through."""

# One slash, then what RFC 3986 allows in a path and a query, but never two slashes in a row before the query: browsers
# take those, and backslashes, for the beginning of a host.
_SEGMENT = r"[A-Za-z0-9._~!$&'()*+,;=:@%-]+"
_OWN_PATH = re.compile(rf"/(?:{_SEGMENT}(?:/{_SEGMENT})*/?)?(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?")

_HISTORY = 20
"""Versions of the rules that are listed."""

STRETCHES = {
    "15m": ("Last 15 minutes", 900.0),
    "1h": ("Last hour", 3_600.0),
    "6h": ("Last 6 hours", 21_600.0),
    "24h": ("Last 24 hours", 86_400.0),
    "7d": ("Last 7 days", 604_800.0),
}
"""Times that the filter offers besides a beginning and an end."""


class Pages:
    """Renders templates with what every page needs."""

    def __init__(self, store: Store, settings: BackendSettings, visitors: Visitors) -> None:
        """Render for the data of `store`."""
        self.search = EventSearch(store.database)
        self._settings = settings
        self._visitors = visitors
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "milliseconds": milliseconds,
            "percent": percent,
            "rate": number_text,
            "visible": visible,
        }
        self._templates.globals |= {"form_token_field": FORM_TOKEN, "release": __version__}

    def projects(self) -> list[str]:
        """Return the projects that can be looked at."""
        return sorted({*self.search.projects(), *self._settings.keys.project_ids}) or [DEFAULT_PROJECT]

    def project(self, request: Request) -> str:
        """Return the project that a request is about: the one it names, else the first that has one.

        Raises:
            Refusal: 404 for one that doesn't exist.
        """
        projects, asked = self.projects(), request.query_params.get("project")
        if asked is None:
            configured = sorted(self._settings.keys.project_ids & set(projects))
            return (configured or projects)[0]
        if asked not in projects:
            raise Refusal(404, "There is no such project: choose one from the list.")
        return asked

    def fragment(self, template: str, **context: object) -> str:
        """Return a piece of a page."""
        return self._templates.get_template(template).render(**context)

    def page(self, request: Request, template: str, status: int = 200, /, **context: object) -> Response:
        """Return a whole page of a project."""
        session = self._visitors.session(request)
        project = context.pop("project", None)
        common: dict[str, object] = {
            "project": project,
            "projects": self.projects() if project is not None else [],
            "project_query": "?" + urlencode({"project": project}) if project is not None else "",
            "form_token": self._visitors.form_token(session),
            "signed_in": self._visitors.sign_in and session.signed_in,
        }
        response = HTMLResponse(self.fragment(template, **common, **context), status_code=status)
        if not self._visitors.knows(request):
            self._visitors.set_cookie(request, response, session)
        return response

    def refused(self, request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
        """Return the page that says why there is no other one."""
        response = self.page(request, "error.html", status, detail=detail, status_code=status)
        response.headers.update(headers or {})
        return response


def dashboard_router(store: Store, settings: BackendSettings, visitors: Visitors, pages: Pages) -> APIRouter:
    """Return the routes of the pages. None of them is part of the OpenAPI document."""
    router = APIRouter(include_in_schema=False)
    router.include_router(_sign_in_router(visitors, pages))
    inside = APIRouter(dependencies=[Depends(visitors.required_for_page)])
    inside.include_router(_overview_router(store, pages))
    inside.include_router(_events_router(settings, pages))
    inside.include_router(_agents_router(store, pages))
    inside.include_router(_rules_router(store, visitors, pages))
    router.include_router(inside)
    return router


def _sign_in_router(visitors: Visitors, pages: Pages) -> APIRouter:
    router = APIRouter()

    @router.get("/login")
    def ask(request: Request) -> Response:
        """Ask for the password."""
        if visitors.may_see(request):
            return RedirectResponse("/", 303)
        return pages.page(request, "login.html", next=own_path(request.query_params.get("next")), error=None)

    @router.post("/login")
    async def sign_in(request: Request) -> Response:
        """Let in who knows the password."""
        fields = await visitors.form(request)
        if visitors.may_see(request):
            return RedirectResponse(own_path(fields.get("next")), 303)
        following, error, status, headers = own_path(fields.get("next")), "This is not the password.", 401, {}
        try:
            session = await visitors.try_password(request, fields.get("password", ""))
        except Refusal as refusal:
            session, error, status, headers = None, refusal.detail, refusal.status, dict(refusal.headers or {})
        if session is None:
            again = pages.page(request, "login.html", status, next=following, error=error)
            again.headers.update(headers)
            return again
        response = RedirectResponse(following, 303)
        visitors.set_cookie(request, response, session)
        return response

    @router.post("/logout")
    async def sign_out(request: Request) -> Response:
        """Forget the visitor."""
        await visitors.form(request)
        response = RedirectResponse("/login" if visitors.sign_in else "/", 303)
        visitors.sign_out(request, response)
        return response

    return router


def own_path(text: str | None) -> str:
    """Return a path of this server that a link asks to go to; the first page for anything else."""
    return text if text and _OWN_PATH.fullmatch(text) else "/"


def _overview_router(store: Store, pages: Pages) -> APIRouter:
    router = APIRouter()

    def figures(request: Request) -> dict[str, object]:
        project, window = pages.project(request), _window(request.query_params)
        found = overview(store.database, project, window, time.time())
        return {"project": project, "figures": found, "chart": chart_of(found), "windows": WINDOWS}

    @router.get("/")
    def show(request: Request) -> Response:
        """Show the figures of a window."""
        return pages.page(request, "overview.html", here="overview", **figures(request))

    @router.get("/overview/figures")
    def refresh(request: Request) -> Response:
        """Give the figures alone, for the page that shows them already."""
        context = figures(request)
        query = "?" + urlencode({"project": context["project"]})
        return HTMLResponse(pages.fragment("figures.html", project_query=query, **context))

    return router


def _window(query: QueryParams) -> Window:
    asked = query.get("window", WINDOWS[0].name)
    for window in WINDOWS:
        if window.name == asked:
            return window
    raise Refusal(422, f"The window must be one of {', '.join(window.name for window in WINDOWS)}.")


def _events_router(settings: BackendSettings, pages: Pages) -> APIRouter:
    router, search, link = APIRouter(), pages.search, settings.trace_link

    @router.get("/events")
    def show(request: Request) -> Response:
        """List events, newest first."""
        project, query = pages.project(request), request.query_params
        wanted = read_filter(query, project, time.time())
        before = _cursor(query)
        # Read before the page: an event that comes meanwhile is shown twice to the script, which knows it by its id.
        newest = search.newest_id()
        page = search.page(wanted, before, PAGE_EVENTS)
        filters = {name: query.get(name, "") for name in _FILTERS}
        asked = {"project": project, **{name: value for name, value in filters.items() if value}}
        return pages.page(
            request,
            "events.html",
            here="events",
            project=project,
            events=[event_view(found, link) for found in page.events],
            older=None if page.older is None else "?" + urlencode({**asked, "before": str(page.older)}),
            cut_short=page.cut_short,
            first_page=before is None,
            newest=newest,
            filters=filters,
            filtered=any(filters.values()),
            query="?" + urlencode(asked),
            event_types=[(kind, kind) for kind in search.event_types(project)],
            actions=[(action, action) for action in search.actions(project)],
            stretches=[(name, label) for name, (label, _) in STRETCHES.items()],
        )

    @router.get("/events/rows")
    def arrived(request: Request) -> Response:
        """Give the lines that came after the id `after`: 204 when there are none."""
        project, query = pages.project(request), request.query_params
        after = query.get("after", "")
        if not after.isascii() or not after.isdigit() or len(after) > 18:
            raise Refusal(422, "after must be the id of an event.")
        newest, known = search.newest_id(), int(after)
        if newest == known:
            return Response(status_code=204)
        if newest < known:
            # The newest rows were deleted, or the file is another one: begin with what there is.
            known = 0
        wanted = read_filter(query, project, time.time())
        found = search.arrived(wanted, max(known, newest - _LIVE_REACH), PAGE_EVENTS)
        lines = pages.fragment(
            "rows.html",
            events=[event_view(one, link) for one in found],
            project_query="?" + urlencode({"project": project}),
        )
        return HTMLResponse(lines, headers={"X-Newest-Id": str(newest)})

    @router.get("/events/export.csv")
    def export_csv(request: Request) -> Response:
        """Give all events that match as CSV."""
        wanted = read_filter(request.query_params, pages.project(request), time.time())
        return _download(csv_lines(search.everything(wanted)), "text/csv; charset=utf-8", "csv")

    @router.get("/events/export.json")
    def export_json(request: Request) -> Response:
        """Give all events that match as a JSON array."""
        wanted = read_filter(request.query_params, pages.project(request), time.time())
        return _download(json_lines(search.everything(wanted)), "application/json", "json")

    @router.get("/events/{event_id}")
    def detail(request: Request, event_id: str) -> Response:
        """Show everything that is known of one event."""
        project = pages.project(request)
        numeric = event_id.isascii() and event_id.isdigit() and len(event_id) <= 18
        found = search.one(project, int(event_id)) if numeric else None
        if found is None:
            raise Refusal(404, "There is no such event in this project: it may be older than what is kept.")
        return pages.page(
            request,
            "event.html",
            here="events",
            project=project,
            event=event_detail(found, link),
            linked=link is not None,
        )

    return router


_FILTERS = ("event_type", "address", "endpoint", "action", "within", "since", "until")


def read_filter(query: Mapping[str, str], project: str, now: float) -> EventFilter:
    """Read a filter off the parameters of a URL; `now` is in Unix seconds.

    Raises:
        Refusal: 422 for a time that can't be read.
    """
    within = query.get("within", "")
    if within and within not in STRETCHES:
        raise Refusal(422, f"within must be one of {', '.join(STRETCHES)}.")
    since, until = _moment(query, "since"), _moment(query, "until")
    if within:
        since = max(now - STRETCHES[within][1], since if since is not None else 0.0)
    text = {name: query.get(name, "").strip()[:512] for name in ("event_type", "address", "endpoint", "action")}
    return EventFilter(project, **text, since=since, until=until)


def _moment(query: Mapping[str, str], name: str) -> float | None:
    text = query.get(name, "")
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp()
    except (ValueError, OverflowError):
        raise Refusal(422, f"{name} must be a time in UTC such as 2026-01-31T14:30.") from None


def _cursor(query: Mapping[str, str]) -> Cursor | None:
    text = query.get("before")
    if text is None:
        return None
    try:
        return Cursor.parse(text)
    except ValueError:
        raise Refusal(422, "This is no place in the list: begin with the newest events.") from None


def _download(pieces: object, media_type: str, suffix: str) -> Response:
    name = f"events-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}.{suffix}"
    return StreamingResponse(
        pieces,  # type: ignore[arg-type]
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _agents_router(store: Store, pages: Pages) -> APIRouter:
    router = APIRouter()

    def agents(project: str) -> list[AgentView]:
        now = time.time()
        return [agent_view(agent, now) for agent in store.agents(project)[: -SHOWN_AGENTS - 1 : -1]]

    @router.get("/agents")
    def show(request: Request) -> Response:
        """List the installations that report, the one seen last first."""
        project = pages.project(request)
        return pages.page(request, "agents.html", here="agents", project=project, agents=agents(project))

    @router.get("/agents/list")
    def refresh(request: Request) -> Response:
        """Give the list alone, for the page that shows it already."""
        return HTMLResponse(pages.fragment("agents_list.html", agents=agents(pages.project(request))))

    return router


def _rules_router(store: Store, visitors: Visitors, pages: Pages) -> APIRouter:
    router = APIRouter()

    def editor(
        request: Request,
        project: str,
        *,
        form: RulesForm | None = None,
        errors: Mapping[str, str] | None = None,
        ban: str = "",
        status: int = 200,
    ) -> Response:
        current = store.rules(project)
        history = store.rules_history(project, _HISTORY + 1)
        before = [*history[1:], DynamicRules(ttl=FIRST_TTL)]
        return pages.page(
            request,
            "rules.html",
            status,
            here="rules",
            project=project,
            current=current,
            since=ago(time.time() - current.timestamp.timestamp()) if current.version else None,
            form=form or form_of(current),
            errors=errors or {},
            ban=ban,
            saved=request.query_params.get("saved") == str(current.version),
            history=[
                (rules.version, day_and_time(rules.timestamp), changes_between(older, rules))
                for rules, older in list(zip(history, before, strict=False))[:_HISTORY]
            ],
        )

    def saved(project: str, rules: DynamicRules) -> Response:
        return RedirectResponse("/rules?" + urlencode({"project": project, "saved": rules.version}), 303)

    def conflict(request: Request, project: str, newest: int, form: RulesForm) -> Response:
        told = f"Somebody saved version {newest} meanwhile. Look at it below, and save again to replace it."
        return editor(request, project, form=form, errors={"": told}, status=409)

    @router.get("/rules")
    def show(request: Request) -> Response:
        """Show the editor and the history."""
        return editor(request, pages.project(request))

    @router.post("/rules")
    async def save(request: Request) -> Response:
        """Make what the form says the newest version."""
        fields = await visitors.form(request)

        def work() -> Response:
            project = pages.project(request)
            form, base = RulesForm(fields), _version(fields)
            current = store.rules(project)
            read = read_form(form, current)
            if read.rules is None:
                return editor(request, project, form=form, errors=read.errors, status=422)
            try:
                return saved(project, store.set_rules(project, read.rules, replacing=base))
            except RulesConflict as late:
                return conflict(request, project, late.newest, form)

        return await run_in_threadpool(work)

    @router.post("/rules/ban")
    async def ban(request: Request) -> Response:
        """Ban one more address or range."""
        fields = await visitors.form(request)

        def work() -> Response:
            project, address = pages.project(request), fields.get("address", "")
            try:
                return saved(project, store.change_rules(project, lambda newest: with_ban(newest, address)))
            except ValueError as error:
                return editor(request, project, errors={"ban": str(error)}, ban=address, status=422)

        return await run_in_threadpool(work)

    @router.post("/rules/restore")
    async def restore(request: Request) -> Response:
        """Make an earlier version the newest."""
        fields = await visitors.form(request)

        def work() -> Response:
            project = pages.project(request)
            earlier = store.rules_version(project, _version(fields))
            if earlier is None:
                raise Refusal(404, "There is no such version of the rules.")
            renewed = earlier.model_copy(update={"timestamp": datetime.now(timezone.utc)})
            try:
                return saved(project, store.set_rules(project, renewed))
            except ValueError as error:
                return editor(request, project, errors={"": str(error)}, status=422)

        return await run_in_threadpool(work)

    return router


def _version(fields: Mapping[str, str]) -> int:
    text = fields.get("version", "")
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Refusal(422, "The form doesn't say which version of the rules it is about.")
    return int(text)
