"""Who asks for rules: known by what an installation's questions say, and forgotten when none comes any more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from opentelemetry_guard.backend import askers as module
from opentelemetry_guard.backend.askers import Askers, Enforcement, etag
from opentelemetry_guard.backend.storage.askers import Asker, StoredAskers
from opentelemetry_guard.backend.storage.store import Store

NOW = 1_800_000_000.0


@pytest.fixture
def process(store: Store, monkeypatch: pytest.MonkeyPatch) -> Askers:
    """What one process knows; it writes at once."""
    monkeypatch.setattr(module, "_WRITE_SECONDS", 0.0)
    return Askers(StoredAskers(store.database))


def noted(process: Askers, *questions: tuple[str, str, str, int], now: float = NOW) -> None:
    """Note questions, each a project, an installation, a tag and a time in seconds, and wait until they are written."""

    async def run() -> None:
        for question in questions:
            process.note(*question, now)
        while process._writing is not None:
            await asyncio.sleep(0)

    asyncio.run(run())


def test_the_version_that_an_installation_has_is_what_its_next_question_names(process: Askers, store: Store) -> None:
    noted(
        process,
        ("shop", "one", "", 5),
        ("shop", "two", f"W/{etag(12, 'abc')}", 5),
        ("blog", "three", etag(1, "abc"), 5),
    )
    expected = {"one": Asker(NOW, None, 5), "two": Asker(NOW, 12, 5)}
    assert process.of("shop", NOW) == expected
    assert Askers(StoredAskers(store.database)).of("shop", NOW) == expected, "another process"


def test_what_is_not_written_yet_is_known_here(process: Askers) -> None:
    async def run() -> Mapping[str, Asker]:
        process.note("shop", "one", "", 5, NOW)
        return process.of("shop", NOW)

    assert asyncio.run(run()) == {"one": Asker(NOW, None, 5)}


@pytest.mark.parametrize("text", ["*", '"abc"', '"v-1-a"', '"v9999999999-a"', "\x00" * 100_000])
def test_a_tag_that_is_not_ours_names_no_version(process: Askers, text: str) -> None:
    noted(process, ("shop", "one", text, 5))
    assert process.of("shop", NOW)["one"].has is None


def test_an_installation_counts_as_long_as_it_may_be_between_two_questions(process: Askers) -> None:
    noted(process, ("shop", "quick", "", 5), ("shop", "slow", "", 300))
    assert process.enforcement("shop", NOW + 90) == Enforcement(2, 300)
    assert process.enforcement("shop", NOW + 91) == Enforcement(1, 300)
    assert process.enforcement("shop", NOW + 901) == Enforcement(0, 0)


def test_who_asks_the_same_again_is_written_seldom_and_who_has_another_version_at_once(
    process: Askers, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    keep = StoredAskers.keep

    def counted(stored: StoredAskers, found: Mapping[tuple[str, str], Asker], now: float) -> None:
        written.append(len(found))
        keep(stored, found, now)

    monkeypatch.setattr(StoredAskers, "keep", counted)
    for second in range(60):
        noted(process, ("shop", "one", etag(1, "a"), 5), now=NOW + second)
    assert written == [1, 1]
    noted(process, ("shop", "one", etag(2, "a"), 5), now=NOW + 60)
    assert Askers(StoredAskers(store.database)).of("shop", NOW + 60)["one"].has == 2


def test_who_is_gone_is_forgotten(process: Askers, store: Store) -> None:
    noted(process, ("shop", "one", "", 5))
    noted(process, ("shop", "two", "", 5), now=NOW + 91)
    assert set(StoredAskers(store.database).of("shop", NOW)) == {"two"}


def test_a_flood_of_installations_is_bounded(process: Askers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ASKERS", 3)
    noted(process, *(("shop", str(number), "", 5) for number in range(10)))
    assert set(process.of("shop", NOW)) == {"7", "8", "9"}


def test_a_database_that_is_gone_is_said_once_and_tried_again(
    process: Askers, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise module.DATABASE_ERRORS[1]("it is gone")

    with monkeypatch.context() as gone:
        gone.setattr(StoredAskers, "keep", broken)
        for _ in range(3):
            noted(process, ("shop", "one", "", 5))
    assert [record.getMessage() for record in caplog.records] == [
        "Who asks for rules can't be told to other processes: it is gone."
    ]
    noted(process, ("shop", "two", "", 5))
    assert set(StoredAskers(store.database).of("shop", NOW)) == {"one", "two"}
