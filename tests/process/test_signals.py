"""When SIGTERM is handled; what the handler does is shown on real processes in tests/delivery/test_shutdown.py."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
import uvicorn

from opentelemetry_guard.process import end as process_end
from opentelemetry_guard.process import signals as termination


@pytest.fixture(autouse=True)
def _default_action() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in termination.SIGNALS}
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    for number, action in before.items():
        signal.signal(number, action)


def test_it_is_handled_over_the_default_action_and_given_back() -> None:
    assert termination.install()
    assert signal.getsignal(signal.SIGTERM) is termination._terminate
    assert not termination.install(), "it is handled already"
    termination.uninstall()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_somebody_elses_handler_is_left_alone() -> None:
    def handler(number: int, frame: object) -> None:
        """Stand for the application's own."""

    signal.signal(signal.SIGTERM, handler)
    assert not termination.install()
    termination.uninstall()
    assert signal.getsignal(signal.SIGTERM) is handler


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert not termination.install()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_off_the_main_thread_nothing_is_touched() -> None:
    answers: list[bool] = []

    def elsewhere() -> None:
        answers.append(termination.install())
        termination.uninstall()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert answers == [False]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_interrupt_is_left_to_python_unless_it_has_the_systems_default_action() -> None:
    python = signal.signal(signal.SIGINT, signal.default_int_handler)
    termination.install()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    termination.install()
    assert signal.getsignal(signal.SIGINT) is termination._terminate
    signal.signal(signal.SIGINT, python)


def test_it_is_handled_again_when_uvicorn_begins_to_serve_after_the_default_was_put_back() -> None:
    termination.follow_uvicorn()
    try:
        server = uvicorn.Server(uvicorn.Config(app="nobody:app"))
        serving = server.serve()
        serving.close()
        assert signal.getsignal(signal.SIGTERM) is termination._terminate
    finally:
        termination.unfollow_uvicorn()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    uvicorn.Server(uvicorn.Config(app="nobody:app")).serve().close()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_first_process_of_a_container_is_flushed_and_its_telemetry_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flushed = threading.Event()
    monkeypatch.setattr(termination, "INIT", os.getpid())
    monkeypatch.setattr(process_end, "end", lambda: pytest.fail("the process goes on"))
    monkeypatch.setattr(process_end, "flush", flushed.set)
    assert termination.install()
    signal.raise_signal(signal.SIGTERM)
    assert flushed.wait(30)
    assert signal.getsignal(signal.SIGTERM) is termination._terminate
