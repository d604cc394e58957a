"""The file of alerts: what it may say, and how its mistakes are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opentelemetry_guard.backend.alerts.channels import SmtpChannel, WebhookChannel
from opentelemetry_guard.backend.alerts.file import Alerts, AlertsError, read_alerts
from opentelemetry_guard.backend.alerts.rules import EventsRule

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WEBHOOK = {"type": "webhook", "url": "https://hooks.example.com/services/T0/s3cr3t", "secret": SECRET}
SMTP = {"type": "smtp", "host": "mail.example.com", "sender": "guard@example.com", "recipients": ["ops@example.com"]}
BURST = {"name": "burst", "when": "events", "threshold": 20, "window": "5m"}

TOML = f"""
every = "30s"
[channels.ops]
type = "webhook"
url = "https://hooks.example.com/guard"
secret = "{SECRET}"
[channels.mail]
type = "smtp"
host = "mail.example.com"
username = "guard"
password = "pass word"
sender = "guard@example.com"
recipients = ["ops@example.com"]
[channels.logs]
type = "otel"
[[rules]]
name = "burst"
when = "events"
event_type = "penetration_attempt"
least_severity = "high"
threshold = 20
window = "5m"
severity = "high"
channels = ["ops"]
[[rules]]
name = "attacker"
when = "incident"
[[rules]]
name = "new address"
when = "new_address"
[[rules]]
name = "new country"
when = "new_country"
[[rules]]
name = "silent"
when = "agent_silent"
after = "10m"
[[rules]]
name = "dead letters"
when = "dead_letters"
[[rules]]
name = "breaker"
when = "breaker_open"
"""


def written(directory: Path, content: dict[str, Any]) -> Path:
    path = directory / "alerts.json"
    path.write_text(json.dumps(content))
    return path


def mistake(directory: Path, **content: Any) -> str:
    with pytest.raises(AlertsError) as told:
        read_alerts(written(directory, {"rules": [], **content}))
    return str(told.value)


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    toml = tmp_path / "alerts.toml"
    toml.write_text(TOML)
    read = read_alerts(toml)
    assert [rule.when for rule in read.rules] == [
        "events",
        "incident",
        "new_address",
        "new_country",
        "agent_silent",
        "dead_letters",
        "breaker_open",
    ]
    first = read.rules[0]
    assert isinstance(first, EventsRule)
    assert (first.window, first.threshold, read.every) == (300, 20, 30)
    assert (read.channels_of("burst"), read.channels_of("silent")) == (["ops"], ["ops", "mail", "logs"])
    mail = read.channels["mail"]
    assert isinstance(mail, SmtpChannel)
    assert (mail.port_used, mail.security) == (587, "starttls")
    assert read_alerts(written(tmp_path, {"rules": [BURST]})).rules[0].name == "burst"


def rule(**fields: Any) -> dict[str, Any]:
    return {"rules": [{**BURST, **fields}]}


def hook(**fields: Any) -> dict[str, Any]:
    return {"channels": {"ops": {**WEBHOOK, **fields}}}


def mail(**fields: Any) -> dict[str, Any]:
    return {"channels": {"m": {**SMTP, **fields}}}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (rule(threshold=0), "rule “burst”: threshold: input should be greater than or equal to 1 (it is 0)"),
        (rule(window="5 weeks"), "rule “burst”: window: write a duration such as 90s, 5m, 2h or 7d (it is '5 weeks')"),
        (rule(window="2d"), "rule “burst”: window: input should be less than or equal to 86400"),
        ({"rules": [BURST, {"when": "events"}]}, "rule 2: name: field required"),
        (rule(limit=3), "rule “burst”: limit: extra inputs are not permitted (it is 3)"),
        (rule(when="evenings"), "rule “burst”: input tag 'evenings' found using 'when' does not match"),
        ({"rules": [{"name": "x"}]}, "rule “x”: unable to extract tag using discriminator 'when'"),
        (rule(name="a\nb"), "name: string should match pattern"),
        ({"rules": [BURST, BURST]}, "two rules are called “burst”"),
        (rule(channels=["ops"]), "rule “burst”: there is no channel “ops” (there is: none)"),
        ({"rules": "all"}, "rules: input should be a valid"),
        (hook(url="ftp://x"), "channel “ops”: url: it must be an http or https URL"),
        (hook(url="https://user:pw@x"), "channel “ops”: url: it must be an http or https URL"),
        (hook(secret="mine"), "channel “ops”: secret: the secret must be whsec_"),
        (hook(secret_env="HOME"), "channel “ops”: give secret or secret_env, not both"),
        (mail(password_env="GUARD_UNSET"), "channel “m”: password_env names a variable that isn't set"),
        (mail(recipients=[]), "channel “m”: recipients: tuple should have at least 1 item"),
        (mail(sender="Guard <g@x>"), "channel “m”: sender: it must be one bare address"),
        (mail(recipients=["a@x\nBcc: b@x"]), "channel “m”: recipients.0: it must be one bare"),
        (mail(username="u"), "channel “m”: give username and password, or neither"),
        (mail(username="u", password="p", security="none"), "channel “m”: a password is sent over TLS alone"),
        (mail(ca_file="/no/such.pem"), "channel “m”: ca_file: there is no such file"),
        ({"every": 0}, "every: input should be greater than or equal to 1 (it is 0)"),
    ],
)
def test_a_mistake_is_told_by_the_rule_or_channel_the_field_and_the_value(
    tmp_path: Path, content: dict[str, Any], told: str
) -> None:
    assert told in mistake(tmp_path, **content)


def test_no_mistake_repeats_a_secret(tmp_path: Path) -> None:
    texts = [
        mistake(tmp_path, channels={"a": {**WEBHOOK, "secret": "my-private-words", "url": "https://"}}),
        mistake(tmp_path, channels={"a": {**WEBHOOK, "timeout": -1, "url": "s3cr3t://hooks/T0"}}),
        mistake(tmp_path, channels={"a": {**SMTP, "password": "my-private-words"}}),
        mistake(tmp_path, channels={"a": {**SMTP, "password": ["my-private-words"], "username": "u"}}),
    ]
    assert not [text for text in texts if "my-private" in text or "s3cr3t" in text or SECRET in text]


def test_secrets_come_from_variables_and_are_shown_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARD_HOOK", SECRET)
    monkeypatch.setenv("GUARD_MAIL", "my-private-words")
    hook = {"type": "webhook", "url": WEBHOOK["url"], "secret_env": "GUARD_HOOK"}
    mail = {**SMTP, "username": "u", "password_env": "GUARD_MAIL"}
    read = read_alerts(written(tmp_path, {"rules": [], "channels": {"hook": hook, "mail": mail}}))
    webhook = read.channels["hook"]
    assert isinstance(webhook, WebhookChannel)
    assert webhook.secret.get_secret_value() == SECRET
    shown = " ".join([*(one.shown for one in read.channels.values()), repr(read.channels["mail"])])
    assert not [secret for secret in (SECRET, "my-private-words", "s3cr3t") if secret in shown]
    assert SECRET not in repr(read)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("alerts.toml", b"rules = [", "can't be read: "),
        ("alerts.json", b"{", "can't be read: "),
        ("alerts.json", b"\xff", "can't be read: "),
        ("alerts.json", b"[" * 100_000, "can't be read: "),
        ("alerts.json", b"[]", "input should be a valid dictionary"),
        ("alerts.yaml", b"", "must be called something.toml or something.json"),
        ("alerts.json", b" " * (1024 * 1024 + 1), "is larger than"),
    ],
)
def test_a_file_that_is_none_is_told_by_its_path(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AlertsError, match=name) as error:
        read_alerts(tmp_path / name)
    assert told in str(error.value)


def test_a_file_that_is_not_there_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(AlertsError, match=r"none\.toml can't be read: No such file"):
        read_alerts(tmp_path / "none.toml")


def test_the_file_of_the_documents_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARD_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("GUARD_SMTP_PASSWORD", "my-private-words")
    page = (Path(__file__).parents[3] / "docs" / "alerts.md").read_text()
    path = tmp_path / "alerts.toml"
    path.write_text(page.split("```toml\n")[1].split("```")[0])
    read = read_alerts(path)
    assert len(read.rules) == page.count("[[rules]]")
    assert set(read.channels) == {"ops", "mail"}


def test_no_rules_at_all_are_a_file_too() -> None:
    assert Alerts(rules=()).channels_of("any") == []
