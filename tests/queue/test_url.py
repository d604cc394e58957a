"""Queue URLs and the default directory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from opentelemetry_guard.queue import url as url_module
from opentelemetry_guard.queue.base import QueueOptions, QueueUnavailable
from opentelemetry_guard.queue.memory import MemoryQueue
from opentelemetry_guard.queue.sqlite.path import default_queue_file, default_queue_path
from opentelemetry_guard.queue.sqlite.store import SqliteQueue
from opentelemetry_guard.queue.url import check_queue_url, mask_url, open_queue

OPTIONS = QueueOptions(destination="ab12")


class RegisteredQueue(MemoryQueue):
    """A store that another package brings."""

    @classmethod
    def from_url(cls, url: str, options: QueueOptions) -> RegisteredQueue:
        return cls(options)


def test_memory_url_makes_a_queue_in_memory() -> None:
    assert isinstance(open_queue("memory://", OPTIONS), MemoryQueue)


def test_each_destination_has_a_file_of_its_own(tmp_path: Path) -> None:
    queue = open_queue(f"sqlite://{tmp_path}/guard.db", OPTIONS)
    assert isinstance(queue, SqliteQueue)
    assert queue.path == tmp_path / "guard-ab12.db"
    assert list(tmp_path.iterdir()) == []


def test_percent_escapes_are_decoded(tmp_path: Path) -> None:
    queue = open_queue(f"sqlite://{tmp_path}/my%20guard%3F.db", OPTIONS)
    assert isinstance(queue, SqliteQueue)
    assert queue.path == tmp_path / "my guard?-ab12.db"


@pytest.mark.parametrize(
    "wrong",
    [
        "sqlite://relative.db",
        "sqlite://",
        "sqlite:guard.db",
        "sqlite:///:memory:",
        "sqlite:///dir/",
        "sqlite:///a.db?mode=ro",
    ],
)
def test_a_wrong_sqlite_url_shows_the_right_form(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"sqlite:///absolute/path/guard\.db"):
        check_queue_url(wrong)
    with pytest.raises(ValueError, match=r"sqlite:///absolute/path/guard\.db"):
        open_queue(wrong, OPTIONS)


def test_a_memory_url_takes_nothing_more() -> None:
    with pytest.raises(ValueError, match=r"write memory://"):
        check_queue_url("memory://name")


@pytest.mark.parametrize(
    "unknown", ["kafka://user:s3cret@host/topic", "user:s3cret@host", "", "kafka://h?password=s3cret"]
)
def test_an_unknown_scheme_names_the_known_ones_and_no_secret(unknown: str) -> None:
    with pytest.raises(ValueError, match=r"known are .*memory://.*sqlite://") as raised:
        check_queue_url(unknown)
    assert "s3cret" not in str(raised.value)


def test_a_destination_cannot_leave_the_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="destination"):
        open_queue(f"sqlite://{tmp_path}/guard.db", QueueOptions(destination="../other"))


def test_secrets_are_masked_however_they_are_written() -> None:
    assert mask_url("redis://user:p@ss/word@host:6379/0") == "redis://***@host:6379/0"
    assert mask_url("redis://host/0?password=x#y") == "redis://host/0?***"
    assert mask_url("sqlite:///a/b.db") == "sqlite:///a/b.db"


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Let a package that is installed have a class for the scheme ``mine``."""

    def registering(target: str) -> None:
        entry = EntryPoint("mine", target, url_module.ENTRY_POINT_GROUP)
        monkeypatch.setattr(url_module, "entry_points", lambda group: [entry])

    url_module._stores.cache_clear()
    yield registering
    url_module._stores.cache_clear()


def test_a_package_can_register_a_scheme(register: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    register(f"{__name__}:RegisteredQueue")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[RegisteredQueue.__module__])
    check_queue_url("mine://somewhere")
    assert isinstance(open_queue("mine://somewhere", OPTIONS), RegisteredQueue)


@pytest.mark.parametrize("target", ["opentelemetry_guard.nowhere:Queue", "opentelemetry_guard.queue.base:Batch"])
def test_a_store_that_cannot_be_used_is_named(register: Callable[[str], None], target: str) -> None:
    register(target)
    with pytest.raises(ValueError, match=target):
        open_queue("mine://somewhere", OPTIONS)


def test_checking_a_url_imports_no_store() -> None:
    code = (
        "import sys; from opentelemetry_guard.queue.url import check_queue_url; before = set(sys.modules); "
        "check_queue_url('sqlite:///a/b.db'); sys.exit(any('sqlite' in name for name in set(sys.modules) - before))"
    )
    root = Path(url_module.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=30).returncode == 0


def test_the_default_directory_follows_the_xdg_specification(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert default_queue_path() == tmp_path / "state" / "opentelemetry-guard"
    for ignored in ("", "relative/state"):
        monkeypatch.setenv("XDG_STATE_HOME", ignored)
        assert default_queue_path() == tmp_path / ".local" / "state" / "opentelemetry-guard"


def test_the_default_file_is_the_destinations_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_queue_file("ab12") == tmp_path / "opentelemetry-guard" / "queue-ab12.db"


def test_without_a_home_directory_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    with pytest.raises(QueueUnavailable, match="OTEL_EXPORTER_GUARD_QUEUE_URL"):
        default_queue_path()
