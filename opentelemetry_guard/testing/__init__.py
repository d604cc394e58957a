"""Helpers for the tests of applications that emit security events.

`capture_events` and the pytest fixture ``security_events`` show what the code
under test has emitted: masked and complete, as it would be sent, and sent
nowhere. `FakeBackend` is a backend for whoever tests a transport.

Example::

    from opentelemetry_guard.testing import capture_events


    def test_a_wrong_password_is_reported(client):
        with capture_events() as captured:
            client.post("/login", json={"user": "ada", "password": "guess"})
        [event] = captured.of_type("authentication_failed")
        assert event.endpoint == "/login"
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .capturing import Captured, capture_events
    from .fake_backend import FakeBackend, Received

__all__ = ["Captured", "FakeBackend", "Received", "capture_events"]

_HOME = {
    "Captured": "capturing",
    "FakeBackend": "fake_backend",
    "Received": "fake_backend",
    "capture_events": "capturing",
}


# pytest loads the plugin in every run; what a test asks for is loaded then.
def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value
