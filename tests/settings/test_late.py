"""Late settings: below keywords and environment, above defaults, the first offer wins, and nothing is raised."""

from __future__ import annotations

import logging

import pytest

from opentelemetry_guard.settings import late
from opentelemetry_guard.settings.delivery import GuardConfig


def test_the_order_is_keyword_environment_late_default() -> None:
    late.offer("SecurityConfig", api_key="late-key", project_id="late-project", timeout=7)
    config = GuardConfig.resolve({"OTEL_EXPORTER_GUARD_PROJECT_ID": "from-environment"}, timeout=3)
    assert (config.api_key, config.project_id, config.timeout) == ("late-key", "from-environment", 3.0)
    assert config.batch_size == GuardConfig().batch_size


def test_nothing_that_counts_as_unset_is_offered() -> None:
    late.offer("SecurityConfig", api_key=None, project_id="  ", endpoint="")
    assert GuardConfig.resolve({}) == GuardConfig()


def test_a_late_value_is_validated_and_brought_to_form_like_a_keyword() -> None:
    late.offer("SecurityConfig", endpoint="https://Guard.example.com/api/v1/")
    assert GuardConfig.resolve({}).endpoint == "https://guard.example.com"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("timeout", "soon", "timeout is 'soon'"),
        ("api_key", "two\nlines", "api_key has a value that can't be used"),
        ("no_such_setting", 1, "unknown setting 'no_such_setting'"),
    ],
)
def test_a_wrong_value_is_one_error_that_names_origin_and_setting_and_the_others_count(
    caplog: pytest.LogCaptureFixture, name: str, value: object, text: str
) -> None:
    for _ in range(2):
        late.offer("AgentConfig", **{name: value, "project_id": "p"})
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("AgentConfig: ")
    assert text in record.getMessage()
    assert "two" not in caplog.text
    assert "pass" not in caplog.text
    assert GuardConfig.resolve({}) == GuardConfig(project_id="p")


def test_of_two_offers_the_first_wins_with_one_warning_that_shows_no_value(caplog: pytest.LogCaptureFixture) -> None:
    late.offer("SecurityConfig", api_key="first-key", timeout=5)
    for _ in range(3):
        late.offer("AgentConfig", api_key="second-key", timeout="5")
    assert GuardConfig.resolve({}).api_key == "first-key"
    assert caplog.messages == ["AgentConfig has another api_key for Guard export than SecurityConfig, which came first"]


def test_subscribers_are_told_of_what_is_new_until_they_leave_and_one_that_raises_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str | None] = []

    def broken() -> None:
        raise ZeroDivisionError

    leave_broken = late.subscribe(broken)
    leave = late.subscribe(lambda: told.append(GuardConfig.resolve({}).project_id))
    late.offer("one", project_id="p")
    late.offer("two", project_id="p")
    late.offer("three", project_id="q")
    assert told == ["p"]
    assert "could not take up settings" in caplog.text
    leave()
    leave_broken()
    late.offer("four", timeout=3)
    assert told == ["p"]


def test_what_one_origin_has_offered_can_be_forgotten_alone() -> None:
    late.offer("SecurityConfig", project_id="p")
    late.offer("AgentConfig", timeout=3)
    late.forget("AgentConfig")
    assert GuardConfig.resolve({}) == GuardConfig(project_id="p")
    late.offer("another", timeout=4)
    assert GuardConfig.resolve({}).timeout == 4.0
    late.forget()
    assert GuardConfig.resolve({}) == GuardConfig()
