"""The page of the rules: the editor, a ban, and the history with the way back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from ...models import DynamicRules
from ..bans import check_bans, with_ban
from ..refusal import Refusal
from ..storage.ban_lists import BanList, shown_url
from ..storage.search import EventFilter
from ..storage.store import FIRST_TTL, RulesConflict, Store
from ..study import Study, study
from .pages import Pages, address
from .risks import Risk, confirmed, own_addresses, risks_of
from .rules_form import GROUPS, LISTS, RulesForm, changes_between, entries, form_of, read_form
from .views import ago
from .visitors import FORM_TOKEN

_HISTORY = 20
"""Versions of the rules that are listed."""

STUDY_DAYS, STUDY_EVENTS, STUDY_SECONDS = 7, 20_000, 3.0
"""What a preview looks at: events of so many days, so many of them at most, for so long at most."""

LISTED = 100
"""Bans of a list that are shown."""

_CONFIRMED = "confirmed"
"""The field that names what was asked about; `_AGAIN` leads back to the editor instead."""
_AGAIN = "again"


_Change = Callable[[Store, str, "_Sent"], DynamicRules]


@dataclass(frozen=True, slots=True)
class _Sent:
    """A form's fields, and the addresses that may be its sender's."""

    fields: Mapping[str, str]
    own: Sequence[str]

    def check(self, older: DynamicRules, newer: DynamicRules) -> DynamicRules:
        """Return `newer`, unless there is something to be asked about it; a ValueError tells that it can't be."""
        check_bans(newer.ip_blacklist)
        risks = risks_of(older, newer, self.own)
        if not confirmed(risks, self.fields.get(_CONFIRMED, "")):
            raise _ToConfirm(risks)
        return newer


class _ToConfirm(Exception):
    """The change may be a slip: the visitor is to confirm it."""

    def __init__(self, risks: Sequence[Risk]) -> None:
        super().__init__("To be confirmed.")
        self.risks = risks


def rules_router(pages: Pages) -> APIRouter:
    """Return the routes of the rules."""
    router = APIRouter(prefix="/rules")

    async def changed(request: Request, change: _Change) -> Response:
        """Let `change` make a project's rules out of a form, and show the new version, or what is wrong."""
        fields = await pages.visitors.form(request)
        sent = _Sent(fields, own_addresses(request))

        def work() -> Response:
            project = pages.project(request)
            try:
                if _AGAIN in fields:
                    raise _NotSaved({}, _written(fields), fields.get("address", ""), 200)
                version = change(pages.store, project, sent).version
            except _ToConfirm as question:
                return _asked_again(pages, request, project, fields, question)
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

    @router.post("/study")
    async def preview(request: Request) -> Response:
        """Say whom what the form says would have blocked, and save nothing."""
        form = RulesForm(await pages.visitors.form(request))
        return await run_in_threadpool(_studied, pages, request, form)

    @router.post("/ban")
    async def ban(request: Request) -> Response:
        """Ban one more address or range."""
        return await changed(request, _banned)

    @router.post("/restore")
    async def restore(request: Request) -> Response:
        """Make an earlier version the newest."""
        return await changed(request, _restored)

    return router


def _saved(store: Store, project: str, sent: _Sent) -> DynamicRules:
    form, base, newest = RulesForm(sent.fields), _version(sent.fields), store.rules(project)
    read = read_form(form, newest)
    if read.rules is None:
        raise _NotSaved(read.errors, form)
    try:
        return store.set_rules(project, sent.check(newest, read.rules), replacing=base)
    except RulesConflict as late:
        told = f"Somebody saved version {late.newest} meanwhile. Look at it below, and save again to replace it."
        raise _NotSaved({"": told}, form, status=409) from None


def _studied(pages: Pages, request: Request, form: RulesForm) -> Response:
    project = pages.project(request)
    newest = pages.store.rules(project)
    read = read_form(form, newest)
    if read.rules is None:
        return _editor(pages, request, project, _NotSaved(read.errors, form))
    wanted = EventFilter(project, since=time.time() - STUDY_DAYS * 86_400)
    now, changed = (pages.store.lists.merged(project, rules) for rules in (newest, read.rules))
    found = study(pages.search.everything(wanted), now, changed, most=STUDY_EVENTS, seconds=STUDY_SECONDS)
    return _editor(pages, request, project, _NotSaved({}, form, status=200), found)


def _banned(store: Store, project: str, sent: _Sent) -> DynamicRules:
    ban = sent.fields.get("address", "")
    try:
        return store.change_rules(project, lambda newest: sent.check(newest, with_ban(newest, ban)))
    except ValueError as error:
        raise _NotSaved({"ban": str(error)}, ban=ban) from None


def _restored(store: Store, project: str, sent: _Sent) -> DynamicRules:
    earlier = store.rules_version(project, _version(sent.fields))
    if earlier is None:
        raise Refusal(404, "There is no such version of the rules.")
    restored = earlier.model_copy(update={"timestamp": datetime.now(timezone.utc)})
    return store.set_rules(project, sent.check(store.rules(project), restored))


def _written(fields: Mapping[str, str]) -> RulesForm | None:
    """Return what was written into the editor; None where the form was another one."""
    return RulesForm(fields) if set(LISTS) & fields.keys() else None


def _asked_again(
    pages: Pages, request: Request, project: str, fields: Mapping[str, str], question: _ToConfirm
) -> Response:
    kept = {name: text for name, text in fields.items() if name not in (FORM_TOKEN, _CONFIRMED)}
    return pages.page(
        request,
        "confirm.html",
        here="rules",
        project=project,
        action=request.url.path,
        kept=kept,
        told=[risk.told for risk in question.risks],
        confirmed_field=_CONFIRMED,
        confirmed="\n".join(risk.key for risk in question.risks),
        again_field=_AGAIN,
    )


class _NotSaved(Exception):
    """What is wrong with a form, by field, and what was written."""

    def __init__(
        self, errors: Mapping[str, str], form: RulesForm | None = None, ban: str = "", status: int = 422
    ) -> None:
        super().__init__("Not saved.")
        self.errors, self.form, self.ban, self.status = errors, form, ban, status


def _editor(
    pages: Pages, request: Request, project: str, mistake: _NotSaved | None = None, found: Study | None = None
) -> Response:
    current = pages.store.rules(project)
    history = pages.store.rules_history(project, _HISTORY + 1)
    before = [*history[1:], DynamicRules(ttl=FIRST_TTL)]
    form = (mistake and mistake.form) or form_of(current)
    return pages.page(
        request,
        "rules.html",
        mistake.status if mistake else 200,
        here="rules",
        project=project,
        current=current,
        since=ago(time.time() - current.timestamp.timestamp()) if current.version else None,
        form=form,
        groups={name: entries(form, name) for name in GROUPS},
        faulty={name for name, fields in GROUPS.items() if mistake and mistake.errors.keys() & set(fields)},
        errors=mistake.errors if mistake else {},
        ban=mistake.ban if mistake else "",
        study=found,
        lists=[_shown(pages, one) for one in pages.store.lists.of(project)],
        study_days=STUDY_DAYS,
        enforcement=pages.askers.enforcement(project, time.time()),
        saved=request.query_params.get("saved") == str(current.version),
        history=[
            (rules.version, rules.timestamp.timestamp(), changes_between(older, rules))
            for rules, older in list(zip(history, before, strict=False))[:_HISTORY]
        ],
    )


def _shown(pages: Pages, found: BanList) -> dict[str, object]:
    """Return a list as the page shows it, with some of what it bans."""
    entries = pages.store.lists.entries(found.project_id, found.url)
    return {
        "origin": shown_url(found.url),
        "size": found.size,
        "passed_over": found.passed_over,
        "changed": ago(time.time() - found.changed_at) if found.changed_at else None,
        "checked": ago(time.time() - found.checked_at) if found.checked_at else None,
        "problem": found.problem,
        "some": entries[:LISTED],
    }


def _version(fields: Mapping[str, str]) -> int:
    text = fields.get("version", "")
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Refusal(422, "The form doesn't say which version of the rules it is about.")
    return int(text)
