"""`opentelemetry-guard init` writes files that a service can begin with."""

from __future__ import annotations

import stat
import subprocess
from configparser import ConfigParser
from pathlib import Path

import yaml
from support.commands import run

from opentelemetry_guard.settings.delivery import GuardConfig
from opentelemetry_guard.settings.table import GROUPS


def test_the_file_of_variables_names_every_setting_and_is_private(tmp_path: Path) -> None:
    result = run(tmp_path, "init", str(tmp_path / "shop"))
    assert result.returncode == 0, result.stderr
    file = tmp_path / "shop" / ".env"
    text = file.read_text()
    variables = {known.variable for group in GROUPS for known in group.settings().values() if known.variable}
    assert all(f"{variable}=" in text for variable in variables)
    assert "OTEL_SERVICE_NAME=shop\n" in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(file) in result.stdout


def test_every_default_that_it_shows_is_one_that_is_taken(tmp_path: Path) -> None:
    run(tmp_path, "init", str(tmp_path))
    lines = (tmp_path / ".env").read_text().splitlines()
    shown = dict(line[1:].partition("=")[::2] for line in lines if line.startswith("#OTEL_EXPORTER_GUARD_"))
    names = {known.variable: known.name for known in GuardConfig.settings().values()}
    given = {names[variable]: value for variable, value in shown.items() if value}
    assert GuardConfig.resolve(**given) == GuardConfig.resolve()


def test_a_shell_reads_the_file(tmp_path: Path) -> None:
    run(tmp_path, "init", str(tmp_path), "--service", "front.end")
    script = f"set -a; . {tmp_path}/.env; set +a; echo $OTEL_SERVICE_NAME"
    read = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, timeout=20)
    assert (read.stdout, read.stderr) == ("front.end\n", "")


def test_a_unit_and_a_compose_file_are_written_on_request(tmp_path: Path) -> None:
    result = run(tmp_path, "init", str(tmp_path), "--service", "shop", "--systemd", "--compose")
    assert result.returncode == 0, result.stderr
    unit = ConfigParser(strict=False, interpolation=None)
    unit.read(tmp_path / "shop.service")
    assert unit["Service"]["EnvironmentFile"] == str(tmp_path / ".env")
    assert list(yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"]) == ["shop"]


def test_what_exists_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("mine")
    result = run(tmp_path, "init", str(tmp_path), "--compose")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: {tmp_path}/compose.yaml exists already: move it away, or choose another directory.\n"
    )
    assert not (tmp_path / ".env").exists()


def test_a_name_that_no_unit_can_have_is_refused(tmp_path: Path) -> None:
    result = run(tmp_path, "init", str(tmp_path), "--service", "my shop; rm")
    assert result.returncode == 1
    assert "'my shop; rm'" in result.stderr
