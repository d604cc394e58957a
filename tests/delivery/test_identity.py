"""Who an agent is: its installation, and the service."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from uuid import UUID

import pytest

from opentelemetry_guard.delivery.identity import FILE_NAME, agent_id, install_id


def test_it_is_a_uuid_that_lasts(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "state"
    first = install_id(directory)
    assert str(UUID(first)) == first
    assert install_id(directory) == first
    assert stat.S_IMODE((directory / FILE_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [path.name for path in directory.iterdir()] == [FILE_NAME]


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    found: list[str] = []
    together = threading.Barrier(8)

    def ask() -> None:
        together.wait()
        found.append(install_id(tmp_path))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.parametrize("content", ["", "not a uuid", "\xff"])
def test_a_damaged_file_is_left_alone_and_gives_an_id_that_lasts_as_long_as_the_process(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(content.encode("latin-1"))
    assert UUID(install_id(tmp_path))
    assert install_id(tmp_path) == install_id(tmp_path)
    assert path.read_bytes() == content.encode("latin-1")


def test_where_nothing_can_be_kept_the_id_is_a_passing_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert UUID(install_id(tmp_path / "file" / "state"))
    assert install_id(None) == install_id(None)


@pytest.fixture
def unnamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("unnamed")
def test_each_service_of_a_user_is_an_agent_of_its_own_whatever_directory_it_runs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    shop = agent_id()
    assert str(UUID(shop)) == shop
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert agent_id() == shop
    monkeypatch.delenv("OTEL_SERVICE_NAME")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop")
    assert agent_id() == shop
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop,service.instance.id=2")
    second = agent_id()
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=blog")
    assert len({shop, second, agent_id()}) == 3


@pytest.mark.usefixtures("unnamed")
def test_services_without_a_name_are_told_apart_by_their_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = agent_id()
    assert agent_id() == here
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    there = agent_id()
    (tmp_path / "elsewhere").rmdir()
    assert len({here, there, agent_id()}) == 3


@pytest.mark.usefixtures("unnamed")
def test_the_same_service_of_another_user_is_another_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = agent_id()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of another user"))
    assert agent_id() != mine
