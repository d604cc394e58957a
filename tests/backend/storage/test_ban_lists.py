"""Ban lists in the database: what is in force of them, and whose turn it is."""

from __future__ import annotations

import pytest

from opentelemetry_guard.backend.storage.ban_lists import RETRY_SECONDS, StoredLists
from opentelemetry_guard.backend.storage.store import Store
from opentelemetry_guard.models import BanSource, DynamicRules

URL, OTHER = "https://one.example/list", "https://two.example/list"
BANS = ["203.0.113.7", "198.51.100.0/24"]


class Lists(StoredLists):
    """Lists by a clock that stands still."""

    def __init__(self, store: Store) -> None:
        self.now = 1_800_000_000.0
        super().__init__(store.database, lambda: self.now)


@pytest.fixture
def lists(store: Store) -> Lists:
    made = Lists(store)
    made.add("shop", URL, 3600.0, {"Key": "VARIABLE"})
    return made


def test_bans_of_lists_follow_the_operators_own_and_each_is_there_once(store: Store, lists: Lists) -> None:
    due = lists.claim()
    assert due is not None
    assert due.headers == {"Key": "VARIABLE"}
    lists.changed(due, BANS, 3, '"1"', "today")
    rules = store.set_rules("shop", DynamicRules(ip_blacklist=["192.0.2.1", "203.0.113.7"]))
    assert store.enforced_rules("shop").ip_blacklist == ["192.0.2.1", *BANS]
    assert store.rules("shop").ip_blacklist == rules.ip_blacklist
    assert store.enforced_rules("shop").ip_blacklist_sources == [BanSource(name=URL, first=2, count=1)]
    assert store.rules("shop").ip_blacklist_sources == []
    assert store.enforced_rules("blog").ip_blacklist == []
    [shown] = lists.of("shop")
    assert (shown.size, shown.passed_over, shown.problem, shown.changed_at) == (2, 3, "", lists.now)
    assert lists.entries("shop", URL) == BANS
    assert lists.remove("shop", URL)
    assert not lists.remove("shop", URL)
    assert store.enforced_rules("shop").ip_blacklist == rules.ip_blacklist


def test_each_ban_is_of_the_first_that_has_it_and_no_secret_of_a_url_is_handed_out(store: Store, lists: Lists) -> None:
    lists.remove("shop", URL)
    urls = ("https://one.example/a", "https://two.example/b", "https://user:password@three.example/c?key=secret")
    entries = (["203.0.113.1", "203.0.113.2"], ["203.0.113.2"], ["203.0.113.2", "203.0.113.3"])
    for url, banned in zip(urls, entries, strict=True):
        lists.add("shop", url, 3600.0, {})
        due = lists.claim()
        assert due is not None
        lists.changed(due, banned, 0, "", "")
    store.set_rules("shop", DynamicRules(ip_blacklist=["203.0.113.1"]))
    rules = store.enforced_rules("shop")
    assert rules.ip_blacklist == ["203.0.113.1", "203.0.113.2", "203.0.113.3"]
    assert {ban: rules.decide(ip=ban).ban_list for ban in rules.ip_blacklist} == {
        "203.0.113.1": "",
        "203.0.113.2": "https://one.example/a",
        "203.0.113.3": "https://three.example/c?…",
    }
    assert "secret" not in rules.model_dump_json()
    assert "password" not in rules.model_dump_json()


def test_a_list_is_claimed_by_one_and_again_when_it_is_time(store: Store, lists: Lists) -> None:
    due, again = lists.claim(), Lists(store).claim()
    assert due is not None
    assert again is None
    lists.unchanged(due)
    lists.now += 3599
    assert lists.claim() is None
    lists.now += 1
    assert lists.claim() is not None
    # Who has claimed it is gone.
    lists.now += RETRY_SECONDS
    assert lists.claim() is not None


def test_a_failure_is_kept_with_the_last_state_and_tried_again_soon(store: Store, lists: Lists) -> None:
    first = lists.claim()
    assert first is not None
    lists.changed(first, BANS, 0, '"1"', "")
    lists.now += 3600
    second = lists.claim()
    assert second is not None
    assert second.etag == '"1"'
    lists.failed(second, "the answer has status 500")
    assert lists.of("shop")[0].problem == "the answer has status 500"
    assert store.enforced_rules("shop").ip_blacklist == BANS
    lists.now += RETRY_SECONDS
    third = lists.claim()
    assert third is not None
    lists.unchanged(third)
    assert lists.of("shop")[0].problem == ""


def test_the_mark_changes_with_what_is_banned_and_with_nothing_else(store: Store, lists: Lists) -> None:
    marks = [store.rules_marks(["shop"])["shop"]]

    def mark() -> object:
        marks.append(store.rules_marks(["shop"])["shop"])
        return marks[-1]

    due = lists.claim()
    assert due is not None
    assert mark() == marks[0]
    lists.now += 1
    lists.changed(due, BANS, 0, "", "")
    assert mark() != marks[0]
    lists.now += 1
    lists.changed(due, BANS, 1, '"2"', "")
    assert mark() == marks[2]
    lists.changed(due, BANS[:1], 0, "", "")
    assert mark() != marks[2]
    lists.add("shop", OTHER, 60.0, {})
    assert mark() == marks[4]
    lists.remove("shop", URL)
    assert mark() != marks[4]


def test_a_list_that_is_added_again_keeps_its_bans_and_is_due(lists: Lists) -> None:
    due = lists.claim()
    assert due is not None
    lists.changed(due, BANS, 0, '"1"', "")
    lists.add("shop", URL, 60.0, {})
    [shown] = lists.of()
    assert (shown.size, shown.every) == (2, 60.0)
    again = lists.claim()
    assert again is not None
    assert (again.headers, again.etag) == ({}, '"1"')
