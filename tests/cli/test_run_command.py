"""`opentelemetry-guard run` as a person meets it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
from support.commands import COMMAND, environment, run

PRINT_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


def environment_of(home: Path, *arguments: str, **variables: str) -> dict[str, str]:
    result = run(home, "run", "--", sys.executable, "-c", PRINT_ENVIRONMENT, *arguments, **variables)
    assert result.returncode == 0, result.stderr
    printed: dict[str, str] = json.loads(result.stdout.splitlines()[-1])
    return printed


def test_what_is_not_set_gets_a_sensible_default(tmp_path: Path) -> None:
    variables = environment_of(tmp_path, OTEL_EXPORTER_GUARD_ENDPOINT="http://127.0.0.1:9")
    assert variables["OTEL_LOGS_EXPORTER"] == variables["OTEL_TRACES_EXPORTER"] == "guard"
    assert variables["OTEL_METRICS_EXPORTER"] == "guard"
    assert int(variables["OTEL_BLRP_SCHEDULE_DELAY"]) <= 200
    assert variables["OTEL_SEMCONV_STABILITY_OPT_IN"] == "http"


def test_what_is_set_stays(tmp_path: Path) -> None:
    given = {"OTEL_TRACES_EXPORTER": "none", "OTEL_BLRP_SCHEDULE_DELAY": "777", "OTEL_METRICS_EXPORTER": "none"}
    variables = environment_of(tmp_path, OTEL_EXPORTER_GUARD_ENDPOINT="http://127.0.0.1:9", **given)
    assert {name: variables[name] for name in given} == given


def test_the_commands_own_options_need_no_dashes_before_them(tmp_path: Path) -> None:
    result = run(tmp_path, "run", "--show", sys.executable, "--version")
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1].endswith(f"{sys.executable} --version")


def test_the_commands_exit_status_is_its_own(tmp_path: Path) -> None:
    assert run(tmp_path, "run", "--", sys.executable, "-c", "raise SystemExit(7)").returncode == 7


def test_a_command_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    result = run(tmp_path, "run", "--", "no-such-command")
    assert result.returncode == 1
    assert (
        result.stderr
        == "Error: The command 'no-such-command' was not found, or may not be run: check its name, path and mode.\n"
    )


def test_a_program_of_an_environment_that_is_not_active_is_found(tmp_path: Path) -> None:
    result = run(tmp_path, "run", "--show", "python", VIRTUAL_ENV="", PATH="/usr/bin:/bin")
    assert result.stdout.splitlines()[-1].split()[1] == str(Path(sys.executable).parent / "python")


def test_an_environment_that_is_active_goes_first(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o700)
    result = run(tmp_path, "run", "--show", "python", VIRTUAL_ENV=str(tmp_path), PATH=f"{tmp_path}:/usr/bin:/bin")
    assert result.stdout.splitlines()[-1].split()[1] == str(python)


def test_a_signal_reaches_the_command_itself(tmp_path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run(tmp_path, "run", "--", sys.executable, "-c", code).returncode == -signal.SIGKILL


EMIT = """
import json, os, sqlite3
from opentelemetry_guard import emit_event, flush

emit_event(event_type="custom_rule_triggered", ip_address="192.0.2.7", action_taken="logged")
assert flush(20)
rows = sqlite3.connect(os.environ["OTEL_GUARD_BACKEND_DB"]).execute("SELECT count(*) FROM events").fetchone()
print(json.dumps([*rows, os.environ["OTEL_EXPORTER_GUARD_ENDPOINT"]]))
raise SystemExit(5)
"""


def test_a_local_backend_takes_what_the_command_emits_and_ends_with_it(tmp_path: Path) -> None:
    database = str(tmp_path / "backend.db")
    variables = {"OTEL_GUARD_BACKEND_PORT": "0", "OTEL_GUARD_BACKEND_DB": database}
    result = run(tmp_path, "run", "--local", "--", sys.executable, "-c", EMIT, **variables)
    assert result.returncode == 5, result.stderr
    stored, address = json.loads(result.stdout.splitlines()[-1])
    assert stored == 1
    assert f"Local backend and dashboard: {address}\n" in result.stderr
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) != 0


def test_a_signal_passes_through_to_a_command_beside_a_local_backend(tmp_path: Path) -> None:
    code = "import signal; print('ready', flush=True); signal.pause()"
    command = [*COMMAND, "run", "--local", "--", sys.executable, "-c", code]
    variables = {"OTEL_GUARD_BACKEND_PORT": "0", "OTEL_GUARD_BACKEND_DB": str(tmp_path / "backend.db")}
    process = subprocess.Popen(command, env=environment(tmp_path, **variables), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    process.stdout.close()


def test_a_local_backend_does_not_outlive_a_run_that_is_killed(tmp_path: Path) -> None:
    # The command is the user's own, and lives on until its input ends.
    command = [*COMMAND, "run", "--local", "--plain", "--", sys.executable, "-c", "print('ready', flush=True); input()"]
    variables = {"OTEL_GUARD_BACKEND_PORT": "0", "OTEL_GUARD_BACKEND_DB": str(tmp_path / "backend.db")}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment(tmp_path, **variables), stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    [backend] = (one for one in psutil.Process(process.pid).children() if "backend" in one.cmdline())
    try:
        process.kill()
        # The standard error is the backend's, too: this returns when all three have ended.
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    finally:
        with suppress(psutil.NoSuchProcess):
            backend.kill()


def test_a_wrong_port_of_the_local_backend_is_one_line(tmp_path: Path) -> None:
    result = run(tmp_path, "run", "--local", "--", sys.executable, "-c", "", OTEL_GUARD_BACKEND_PORT="door")
    assert result.returncode == 1
    assert result.stderr == "Error: OTEL_GUARD_BACKEND_PORT is 'door': a port from 0 to 65535 is needed.\n"


def test_enforcing_rules_is_one_switch(tmp_path: Path) -> None:
    assert "OTEL_PYTHON_GUARD_ENFORCE_RULES=true" in run(tmp_path, "run", "--enforce", "--show", "python").stdout
    assert "ENFORCE_RULES" not in run(tmp_path, "run", "--show", "python").stdout
    refused = run(tmp_path, "run", "--enforce", "--plain", "--show", "python")
    assert (refused.returncode, "GuardRulesMiddleware" in refused.stderr) == (1, True)
