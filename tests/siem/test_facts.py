"""What a row says is read once for all formats."""

from __future__ import annotations

from typing import Any

import pytest
from siem.rows import bare

from opentelemetry_guard.siem.cef import cef
from opentelemetry_guard.siem.ecs import ecs
from opentelemetry_guard.siem.ocsf import ocsf


@pytest.mark.parametrize("key", ["user", "user.id", "enduser.id", "user_id", "user.name", "username"])
@pytest.mark.parametrize(("user", "told"), [("ada", "ada"), (42, "42"), (0, "0")])
def test_a_user_is_a_name_or_a_number(key: str, user: object, told: str) -> None:
    row: Any = {**bare("authentication_failed"), "metadata": {key: user}}
    document: Any = ecs(row)
    event: Any = ocsf(row)
    assert document["user"]["name"] == event["user"]["name"] == told
    assert f"suser={told}" in cef(row)


@pytest.mark.parametrize("user", [True, None, 1.5, "", {"name": "ada"}, ["ada"]])
def test_what_names_nobody_is_no_user(user: object) -> None:
    row: Any = {**bare("authentication_failed"), "metadata": {"user": user, "username": "bob"}}
    document: Any = ecs(row)
    assert document["user"]["name"] == "bob"
