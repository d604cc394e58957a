"""`opentelemetry-guard backend alerts` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import run
from support.mailbox import mailbox
from support.raw_server import answer, raw_server

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FILE = """
[channels.ops]
type = "webhook"
url = "http://127.0.0.1:{hook}/services/s3cr3t"
secret_env = "GUARD_HOOK"
[channels.mail]
type = "smtp"
host = "127.0.0.1"
port = {mail}
security = "none"
sender = "guard@example.com"
recipients = ["ops@example.com"]
[[rules]]
name = "burst"
when = "events"
threshold = 20
window = "5m"
channels = ["mail"]
"""


def file(directory: Path, text: str = FILE, **ports: int) -> str:
    path = directory / "alerts.toml"
    path.write_text(text.format(**{"hook": 1, "mail": 1, **ports}))
    return str(path)


def test_a_file_is_told_without_sending_anything(tmp_path: Path) -> None:
    with raw_server(answer()) as server:
        path = file(tmp_path, hook=server.port)
        result = run(tmp_path, "backend", "alerts", "check", path, GUARD_HOOK=SECRET)
    assert (result.returncode, result.stderr, server.requests) == (0, "", [])
    assert result.stdout == f"{path}: 1 rule, 2 channels\n  burst (events, medium): mail\n"


def test_a_test_goes_by_every_channel_and_no_secret_is_shown(tmp_path: Path) -> None:
    with raw_server(answer()) as server, mailbox() as box:
        path = file(tmp_path, hook=server.port, mail=box.port)
        result = run(tmp_path, "backend", "alerts", "check", path, "--send", GUARD_HOOK=SECRET)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"ops (http://127.0.0.1:{server.port}): sent\n" in result.stdout
    assert "mail (ops@example.com by 127.0.0.1): sent\n" in result.stdout
    assert not [secret for secret in (SECRET, "s3cr3t") if secret in result.stdout]
    told = json.loads(server.requests[0].partition(b"\r\n\r\n")[2])
    assert told["data"]["test"] is True
    assert [mail["Subject"] for mail in box.mails] == ["[Guard] Test: low: test (test)"]


def test_a_channel_that_fails_is_told_and_the_others_are_tried(tmp_path: Path) -> None:
    refusal = answer(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    with raw_server(refusal) as server, mailbox() as box:
        path = file(tmp_path, hook=server.port, mail=box.port)
        result = run(tmp_path, "backend", "alerts", "check", path, "--send", GUARD_HOOK=SECRET)
    assert result.returncode == 1
    assert "failed: the receiver answered 500\n" in result.stdout
    assert len(box.mails) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (FILE.replace("20", "0"), "rule “burst”: threshold: input should be greater than or equal to 1 (it is 0)."),
        (FILE, "channel “ops”: secret_env names a variable that isn't set."),
        ("rules = [", "can't be read: "),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    variables = {} if text is FILE else {"GUARD_HOOK": SECRET}
    result = run(tmp_path, "backend", "alerts", "check", file(tmp_path, text), **variables)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: The file of alerts ")
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
