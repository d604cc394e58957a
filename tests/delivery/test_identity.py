"""The id of an installation."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from uuid import UUID

import pytest

from opentelemetry_guard.delivery.identity import FILE_NAME, install_id


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
