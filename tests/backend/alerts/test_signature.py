"""Webhooks are signed as Standard Webhooks says."""

from __future__ import annotations

import base64

import pytest

from opentelemetry_guard.backend.alerts.signature import secret_bytes, signed_headers

# The example of the specification's reference implementations.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_signature_is_that_of_the_reference_implementations() -> None:
    headers = signed_headers(secret_bytes(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "change", [("msg_2", 1614265330, b"{}"), ("msg", 1614265331, b"{}"), ("msg", 1614265330, b"[]")]
)
def test_whatever_is_changed_changes_the_signature(change: tuple[str, int, bytes]) -> None:
    key = secret_bytes(SECRET)
    signed = signed_headers(key, "msg", 1614265330, b"{}")["webhook-signature"]
    assert signed_headers(key, *change)["webhook-signature"] != signed


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "my-own-words",
        SECRET.removeprefix("whsec_"),
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        "whsec_ä",
    ],
)
def test_a_secret_of_another_form_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_ and the base64 of 24 to 64 bytes") as refused:
        secret_bytes(secret)
    assert not secret or secret == "whsec_" or secret not in str(refused.value)
