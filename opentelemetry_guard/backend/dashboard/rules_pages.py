"""The page of the rules: the editor, a ban, and the history with the way back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from ...models import DynamicRules
from ..bans import with_ban
from ..refusal import Refusal
from ..storage.store import FIRST_TTL, RulesConflict, Store
from .pages import Pages, address
from .rules_form import RulesForm, changes_between, form_of, read_form
from .views import ago, day_and_time

_HISTORY = 20
"""Versions of the rules that are listed."""


_Change = Callable[[Store, str, Mapping[str, str]], DynamicRules]


def rules_router(pages: Pages) -> APIRouter:
    """Return the routes of the rules."""
    router = APIRouter(prefix="/rules")

    async def changed(request: Request, change: _Change) -> Response:
        """Let `change` make a project's rules out of a form, and show the new version, or what is wrong."""
        fields = await pages.visitors.form(request)

        def work() -> Response:
            project = pages.project(request)
            try:
                version = change(pages.store, project, fields).version
            except _NotSaved as mistake:
                return _editor(pages, request, project, mistake)
            except ValueError as error:
                return _editor(pages, request, project, _NotSaved({"": str(error)}))
            return RedirectResponse(address("/rules", project=project, saved=version), 303)

        return await run_in_threadpool(work)

    @router.get("")
    def show(request: Request) -> Response:
        """Show the editor and the history."""
        return _editor(pages, request, pages.project(request))

    @router.post("")
    async def save(request: Request) -> Response:
        """Make what the form says the newest version."""
        return await changed(request, _saved)

    @router.post("/ban")
    async def ban(request: Request) -> Response:
        """Ban one more address or range."""
        return await changed(request, _banned)

    @router.post("/restore")
    async def restore(request: Request) -> Response:
        """Make an earlier version the newest."""
        return await changed(request, _restored)

    return router


def _saved(store: Store, project: str, fields: Mapping[str, str]) -> DynamicRules:
    form, base = RulesForm(fields), _version(fields)
    read = read_form(form, store.rules(project))
    if read.rules is None:
        raise _NotSaved(read.errors, form)
    try:
        return store.set_rules(project, read.rules, replacing=base)
    except RulesConflict as late:
        told = f"Somebody saved version {late.newest} meanwhile. Look at it below, and save again to replace it."
        raise _NotSaved({"": told}, form, status=409) from None


def _banned(store: Store, project: str, fields: Mapping[str, str]) -> DynamicRules:
    ban = fields.get("address", "")
    try:
        return store.change_rules(project, lambda newest: with_ban(newest, ban))
    except ValueError as error:
        raise _NotSaved({"ban": str(error)}, ban=ban) from None


def _restored(store: Store, project: str, fields: Mapping[str, str]) -> DynamicRules:
    earlier = store.rules_version(project, _version(fields))
    if earlier is None:
        raise Refusal(404, "There is no such version of the rules.")
    return store.set_rules(project, earlier.model_copy(update={"timestamp": datetime.now(timezone.utc)}))


class _NotSaved(Exception):
    """What is wrong with a form, by field, and what was written."""

    def __init__(
        self, errors: Mapping[str, str], form: RulesForm | None = None, ban: str = "", status: int = 422
    ) -> None:
        super().__init__("Not saved.")
        self.errors, self.form, self.ban, self.status = errors, form, ban, status


def _editor(pages: Pages, request: Request, project: str, mistake: _NotSaved | None = None) -> Response:
    current = pages.store.rules(project)
    history = pages.store.rules_history(project, _HISTORY + 1)
    before = [*history[1:], DynamicRules(ttl=FIRST_TTL)]
    return pages.page(
        request,
        "rules.html",
        mistake.status if mistake else 200,
        here="rules",
        project=project,
        current=current,
        since=ago(time.time() - current.timestamp.timestamp()) if current.version else None,
        form=(mistake and mistake.form) or form_of(current),
        errors=mistake.errors if mistake else {},
        ban=mistake.ban if mistake else "",
        enforcement=pages.askers.enforcement(project, time.time()),
        saved=request.query_params.get("saved") == str(current.version),
        history=[
            (rules.version, day_and_time(rules.timestamp), changes_between(older, rules))
            for rules, older in list(zip(history, before, strict=False))[:_HISTORY]
        ],
    )


def _version(fields: Mapping[str, str]) -> int:
    text = fields.get("version", "")
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Refusal(422, "The form doesn't say which version of the rules it is about.")
    return int(text)
