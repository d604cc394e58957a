"""`opentelemetry-guard backend` as a person meets it."""

from __future__ import annotations

import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.backend import running_backend
from support.commands import COMMAND, environment, run
from support.sending import batch, event, post

from opentelemetry_guard.version import __version__


def test_version(tmp_path: Path) -> None:
    result = run(tmp_path, "--version")
    assert (result.returncode, result.stdout) == (0, f"opentelemetry-guard {__version__}\n")


def test_help_names_the_variable_of_each_secret_and_never_its_value(tmp_path: Path) -> None:
    secret = {f"OTEL_GUARD_BACKEND_{name}": "hunter2" for name in ("API_KEY", "SIGNING_SECRET", "ENCRYPTION_KEY")}
    result = run(tmp_path, "backend", "--help", COLUMNS="200", **secret)
    assert result.returncode == 0
    assert all(name in result.stdout for name in secret)
    assert "hunter2" not in result.stdout


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com", "::", ""])
def test_a_host_beyond_loopback_is_refused_in_one_line(tmp_path: Path, host: str) -> None:
    result = run(tmp_path, "backend", "--host", host, "--port", "0")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: The host {host!r} is not a loopback address: use 127.0.0.1, ::1 or localhost, or set a dashboard "
        "password (OTEL_GUARD_BACKEND_PASSWORD).\n"
    )


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run(tmp_path, "backend", "--port", str(port))
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(
        rf"Error: Cannot listen on 127\.0\.0\.1 port {port}: .+ Choose another --port or --host\.\n", result.stderr
    )


def test_a_wrong_encryption_key_refuses_to_start_without_repeating_it(tmp_path: Path) -> None:
    result = run(tmp_path, "backend", "--port", "0", "--encryption-key", "hunter2")
    assert result.returncode == 1
    assert "urlsafe base64 of 32 bytes" in result.stderr
    assert "hunter2" not in result.stderr + result.stdout


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(tmp_path, "backend", "--port", "0", "--db", str(tmp_path / "file" / "backend.db"))
    assert result.returncode == 1
    assert re.fullmatch(r"Error: .*file.*\n", result.stderr)


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    result = run(tmp_path, "backend", "--port", "0", "--db", str(path))
    assert result.returncode == 1
    assert re.fullmatch(r"Error: The database .*notes\.txt cannot be .*\n", result.stderr)


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [("typer", ["--version"], "cli"), ("uvicorn", ["backend"], "backend"), ("fastapi", ["backend"], "backend")],
)
def test_a_missing_package_names_the_extra_in_one_line(
    tmp_path: Path, package: str, arguments: list[str], extra: str
) -> None:
    code = f"import sys; sys.modules[{package!r}] = None\nfrom opentelemetry_guard.cli import main\nmain()"
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert re.fullmatch(rf".*{package}.*pip install 'opentelemetry-guard\[{extra}\]'\n", result.stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_signal_ends_it_with_0_and_in_silence(number: signal.Signals) -> None:
    with running_backend() as backend:
        assert post(backend, "/api/v1/events", batch(events=[event()])).status_code == 200
        assert backend.stop(number) == 0
        assert backend.stderr() == ""


def test_one_that_is_started_as_a_child_ends_with_0_when_its_input_does(tmp_path: Path) -> None:
    command = [*COMMAND, "backend", "--until-input-ends", "--port", "0", "--db", str(tmp_path / "backend.db")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(tmp_path), stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"listening on ")
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (0, b"")


@pytest.mark.parametrize("state", ["", "no/absolute/path"])
def test_its_database_is_in_the_state_directory_of_the_user(tmp_path: Path, state: str) -> None:
    result = run(tmp_path, "backend", "keys", "list", XDG_STATE_HOME=state)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / ".local" / "state" / "opentelemetry-guard" / "backend.db").exists()


def test_without_a_home_directory_a_database_has_to_be_named(tmp_path: Path) -> None:
    result = run(tmp_path, "backend", "keys", "list", HOME="")
    assert result.returncode == 1
    assert (
        result.stderr
        == "Error: There is no home directory for the database: set HOME or XDG_STATE_HOME, or choose a --db.\n"
    )


def printed_by_a_start(home: Path) -> str:
    """Start the backend without a key, end it when it listens, and return what it has printed."""
    process = subprocess.Popen(
        [*COMMAND, "backend", "--port", "0"],
        env=environment(home, XDG_STATE_HOME=str(home / "state")),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        first = process.stdout.readline()
        process.terminate()
        printed = first + process.stdout.read()
    assert process.returncode == 0
    return printed


def test_without_a_key_the_first_start_makes_one_and_shows_it_with_what_a_sender_needs(tmp_path: Path) -> None:
    printed = printed_by_a_start(tmp_path)
    exported = dict(re.findall(r"(OTEL_\w+)=(\S+)", printed))
    assert exported.pop("OTEL_EXPORTER_GUARD_API_KEY").startswith("guard_")
    assert exported == {
        "OTEL_EXPORTER_GUARD_ENDPOINT": printed.splitlines()[0].removeprefix("listening on "),
        "OTEL_EXPORTER_GUARD_PROJECT_ID": "default",
        "OTEL_TRACES_EXPORTER": "guard",
        "OTEL_LOGS_EXPORTER": "guard",
        "OTEL_METRICS_EXPORTER": "guard",
    }
    database = tmp_path / "state" / "opentelemetry-guard" / "backend.db"
    assert str(database) in printed
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_the_key_of_the_first_start_opens_later_ones_which_do_not_show_it(tmp_path: Path) -> None:
    (key,) = re.findall(r"API_KEY=(guard_\S+)", printed_by_a_start(tmp_path))
    printed = printed_by_a_start(tmp_path)
    assert "guard_" not in printed
    assert "backend keys create --project default" in printed
    database = tmp_path / "state" / "opentelemetry-guard" / "backend.db"
    with running_backend(db=database, api_key="another", project="default") as backend:
        headers = {"X-API-Key": key, "X-Project-ID": "default"}
        body = batch(events=[event()], project_id="default")
        assert backend.http.post(f"{backend.url}/api/v1/events", json=body, headers=headers).status_code == 200


def test_a_project_whose_keys_are_revoked_gets_another_one(tmp_path: Path) -> None:
    first = printed_by_a_start(tmp_path)
    assert run(tmp_path, "backend", "keys", "revoke", "1", XDG_STATE_HOME=str(tmp_path / "state")).returncode == 0
    second = re.findall(r"API_KEY=(guard_\S+)", printed_by_a_start(tmp_path))
    assert second
    assert second[0] not in first


def test_a_key_that_was_given_is_never_shown() -> None:
    with running_backend(api_key="hunter2", signing_secret="hunter3") as backend:
        post(backend, "/api/v1/events", batch())
        backend.stop()
        assert "hunter" not in backend.stdout() + backend.stderr()
        assert "POST" not in backend.stdout() + backend.stderr()


def test_verbose_logs_each_request() -> None:
    with running_backend(arguments=("--verbose",)) as backend:
        post(backend, "/api/v1/events", batch())
        backend.stop()
        assert "POST /api/v1/events" in backend.stdout() + backend.stderr()


def test_ipv6_loopback_works() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with running_backend(host="::1") as backend:
        assert backend.url.startswith("http://[::1]:")
        assert post(backend, "/api/v1/events", batch(events=[event()])).status_code == 200


def test_a_ban_and_its_end_are_versions_of_the_rules(tmp_path: Path) -> None:
    database = tmp_path / "backend.db"
    with running_backend(db=database, project="shop") as backend:
        banned = run(
            tmp_path, "backend", "ban", "203.0.113.7", "2001:db8::/32", "--project", "shop", "--db", str(database)
        )
        first, *said = banned.stdout.splitlines()
        assert first == "Version 1 of the rules of the project shop: 2 banned."
        assert [line.partition(", so")[0] for line in said] == ["None of this project's applications asks for rules"]
        asks = {**backend.headers, "X-Agent-Install-Id": "ac1f84cb-0000-4000-8000-000000000000"}
        answer = backend.http.get(f"{backend.url}/api/v1/rules", headers=asks).json()
        assert answer["ip_blacklist"] == ["203.0.113.7", "2001:db8::/32"]
        lifted = run(tmp_path, "backend", "unban", "203.0.113.7", "--project", "shop", "--db", str(database))
        assert lifted.stdout.splitlines() == [
            "Version 2 of the rules of the project shop: 1 banned.",
            "1 running application asks for rules: a change is in force there within 5 s.",
        ]
    later = run(tmp_path, "backend", "ban", "203.0.113.8", "--project", "shop", "--db", str(database))
    assert later.stdout.splitlines() == [
        "Version 3 of the rules of the project shop: 2 banned.",
        "How many applications enforce them is told by a backend of this database, on its page Rules.",
    ]


def test_who_enforces_rules_is_told_nobody_without_the_password(tmp_path: Path) -> None:
    with running_backend(db=tmp_path / "backend.db", password="a long one") as backend:
        assert backend.http.get(f"{backend.url}/local/enforcement").status_code == 401
        banned = run(tmp_path, "backend", "ban", "203.0.113.7", "--db", str(tmp_path / "backend.db"))
    assert banned.stdout.endswith("on its page Rules.\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("ban", "everybody"), "Error: “everybody” is neither an IP address nor a range"),
        (("ban", "0.0.0.0/0"), "Error: “0.0.0.0/0” is every address"),
        (("unban", "203.0.113.7"), "Error: Not banned in the project default: 203.0.113.7."),
    ],
)
def test_a_ban_that_can_not_be_is_one_line_and_changes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    result = run(tmp_path, "backend", *arguments, "--db", str(tmp_path / "backend.db"))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(told)
    assert result.stderr.count("\n") == 1
