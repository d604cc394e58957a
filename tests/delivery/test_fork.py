"""After a fork, the child delivers its own rows and none of its parent's."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from support.emitting_app import emitting_app
from support.guard_server import guard_server

from opentelemetry_guard.delivery.delivery import Delivery
from opentelemetry_guard.events.codec import complete, to_row
from opentelemetry_guard.process.end import CLOCK
from opentelemetry_guard.settings.delivery import GuardConfig

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
WATCHDOG = 60.0


@pytest.mark.parametrize("way", ["fork", "multiprocessing"])
@pytest.mark.parametrize("store", ["memory://", ""])
def test_parent_and_child_deliver_their_own_each_once(way: str, store: str) -> None:
    with guard_server() as server:
        with emitting_app({**server.environment, "OTEL_EXPORTER_GUARD_QUEUE_URL": store}) as app:
            app.tell("emit before 3")
            assert app.tell(f"{way} child 3") == "done"
            app.tell("emit after 3")
            assert app.end() == 0
        expected = [f"{prefix}{n}" for prefix in ("before", "child", "after") for n in range(3)]
        assert Counter(event["reason"] for event in server.events) == Counter(expected)
        values: Counter[str] = Counter()
        for row in server.metrics:
            values[row["endpoint"]] += row["value"]
        assert values == {"/before": 3.0, "/child": 3.0, "/after": 3.0}


@pytest.mark.parametrize("store", ["memory://", None])
def test_what_waits_in_the_parent_is_not_the_childs_to_send(store: str | None) -> None:
    def rows(reason: str) -> list[dict[str, object]]:
        return [complete(to_row({"event_type": "ip_blocked", "reason": reason})[0])]  # type: ignore[list-item]

    with guard_server() as server:
        server.answer(503, headers={"Retry-After": "200"})
        made = Delivery(GuardConfig.resolve({}, **{**server.settings, "queue_url": store}))
        made.submit("events", rows("parent"))  # type: ignore[arg-type]
        server.wait_for_requests(1)
        # The locks of the parent are held in the child, by threads that it does not have.
        with made._lock, made._sender._condition:
            pid = os.fork()
            if pid == 0:
                made._routes["events"]._not_before = 0.0
                made.submit("events", rows("child"))  # type: ignore[arg-type]
                made.flush(WATCHDOG, hurry=True)
                os._exit(0 if CLOCK.remaining(1.0) > 0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert [event["reason"] for event in server.events] == ["child"]
        made._routes["events"]._not_before = 0.0
        made.flush(WATCHDOG, hurry=True)
        server.wait_for_events(2)
        made.close(WATCHDOG)
        assert Counter(event["reason"] for event in server.events) == {"child": 1, "parent": 1}
