"""Results that may be awaited, or used as they are."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, get_origin, get_type_hints

import pytest

from opentelemetry_guard import GuardAgent
from opentelemetry_guard.agent.settled import (
    DONE,
    AskedRules,
    Deferred,
    Flag,
    NoRules,
    Settled,
    SettledRules,
    SettledStatus,
)
from opentelemetry_guard.models import AgentStatus, DynamicRules


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


async def _task(result: Any) -> Any:
    return await asyncio.create_task(result)


async def _gathered(result: Any) -> Any:
    return (await asyncio.gather(result, result))[1]


async def _ensured(result: Any) -> Any:
    return await asyncio.ensure_future(result)


async def _in_time(result: Any) -> Any:
    return await asyncio.wait_for(result, 10)


FORMS = (_awaited, _task, _gathered, _ensured, _in_time)


@pytest.mark.parametrize("form", FORMS)
def test_it_is_taken_wherever_asyncio_takes_a_coroutine(form: Callable[[Any], Any]) -> None:
    assert asyncio.run(form(DONE)) is None
    assert asyncio.run(form(Flag(True))) is True
    assert asyncio.run(form(Flag(False))) is False


def test_it_can_be_run_by_a_loop_of_its_own() -> None:
    assert asyncio.run(DONE) is None
    assert asyncio.run(Flag(True)) is True
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(Flag(False)) is False
    future = asyncio.run_coroutine_threadsafe(DONE, loop)
    loop.run_until_complete(asyncio.wrap_future(future, loop=loop))
    loop.close()


def test_asyncios_debug_mode_can_name_it() -> None:
    async def main() -> str:
        task = asyncio.create_task(DONE)
        status = asyncio.create_task(SettledStatus(status="healthy", uptime=1.0))
        text = repr(task) + repr(status)
        await asyncio.gather(task, status)
        return text

    assert "Task" in asyncio.run(main(), debug=True)


def test_it_may_be_awaited_any_number_of_times() -> None:
    result = Flag(True)
    for _ in range(3):
        assert asyncio.run(_awaited(result)) is True


def test_dropping_one_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for result in (DONE, Flag(False), NoRules()):
            result.close()
            del result
    assert inspect.isawaitable(DONE)


def test_an_exception_that_is_thrown_in_comes_out() -> None:
    with pytest.raises(KeyError, match="here"):
        DONE.throw(KeyError("here"))
    with pytest.raises(KeyError):
        DONE.throw(KeyError)


def test_a_flag_is_as_good_as_a_truth_value() -> None:
    assert Flag(True)
    assert not Flag(False)
    assert Flag(True) == True  # noqa: E712  the comparison is what is tested
    assert (str(Flag(True)), repr(Flag(False)), f"{Flag(True)}") == ("True", "False", "True")


def test_a_status_is_usable_as_it_is_and_awaited_a_plain_model() -> None:
    status = SettledStatus(status="healthy", uptime=1.0, errors=["x"])
    assert isinstance(status, AgentStatus)
    assert status.errors == ["x"]
    awaited = asyncio.run(_awaited(status))
    assert type(awaited) is AgentStatus
    assert awaited.model_dump() == status.model_dump()


def test_rules_are_usable_as_they_are_and_awaited_a_plain_model() -> None:
    rules = SettledRules(ip_blacklist=["192.0.2.1"], endpoint_rate_limits={"/a": (1, 60)})
    assert isinstance(rules, DynamicRules)
    assert rules
    assert rules.endpoint_rate_limits.get("/a") == (1, 60)
    assert type(asyncio.run(_awaited(rules))) is DynamicRules


def test_no_rules_are_false_and_empty_and_awaited_none() -> None:
    rules = NoRules()
    assert not rules
    assert rules.ip_blacklist == []
    assert asyncio.run(_awaited(rules)) is None
    assert isinstance(rules, Settled)


async def _later(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


@pytest.mark.parametrize("form", [_awaited, _task, _ensured, _in_time])
def test_deferred_work_is_done_when_it_is_awaited(form: Callable[[Any], Any]) -> None:
    assert asyncio.run(form(Deferred(_later("done")))) == "done"


def test_deferred_work_can_be_cancelled() -> None:
    async def main() -> None:
        task = asyncio.create_task(Deferred(asyncio.Event().wait()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_deferred_work_that_nobody_awaits_is_warned_of() -> None:
    with pytest.warns(RuntimeWarning, match="never awaited"):
        Deferred(_later(None))


def test_rules_that_are_asked_for_are_none_yet_and_awaited_what_comes() -> None:
    asked = AskedRules.by(_later(DynamicRules(version=7)))
    assert not asked
    assert asked.ip_blacklist == []
    found = asyncio.run(_awaited(asked))
    assert found is not None
    assert found.version == 7


def test_no_method_of_the_agent_is_typed_as_a_coroutine_which_type_checkers_want_awaited() -> None:
    for name in ("start", "stop", "close", "send_event", "send_metric", "flush_buffer", "initialize_redis"):
        assert get_origin(get_type_hints(getattr(GuardAgent, name))["return"]) is Settled, name
    rules = get_type_hints(GuardAgent.get_dynamic_rules)["return"]
    assert issubclass(rules, (Settled, DynamicRules))
