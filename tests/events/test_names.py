"""Every type that has a meaning has a name for people, and no two have the same."""

from __future__ import annotations

from opentelemetry_guard.events.known import KNOWN, TEST_EVENT
from opentelemetry_guard.events.names import NAMES, name_of


def test_every_known_type_has_a_name_of_its_own() -> None:
    assert NAMES.keys() == {*KNOWN, TEST_EVENT}
    assert len(set(NAMES.values())) == len(NAMES)
    assert not [kind for kind, name in NAMES.items() if name == kind or "_" in name]


def test_a_type_of_the_applications_own_is_its_own_name() -> None:
    assert name_of("custom_rule_triggered") == "custom_rule_triggered"
