"""What clients go on with is counted and told later, by requests of others, of which none pays for all of them."""

from __future__ import annotations

from opentelemetry.trace import INVALID_SPAN_CONTEXT

from opentelemetry_guard.instrumentation.http.folding import MOST_TOLD, Client, Event, FoldedEvents
from opentelemetry_guard.instrumentation.http.reports import FOLDED
from opentelemetry_guard.settings.http_rules import Folding


def event(name: str) -> Event:
    return Event({"reason": name, "metadata": {}}, INVALID_SPAN_CONTEXT)


def test_when_a_crowd_falls_silent_no_single_request_tells_of_all_of_it() -> None:
    folded = FoldedEvents(Folding(seconds=60, clients=1000))
    crowd = [Client(f"client {number}", "scan") for number in range(100)]
    for client in crowd * 3:
        folded.admit(client, event(client.name), 0)
    told = [folded.admit(Client("another", "scan"), event("another"), 60 + number) for number in range(100)]
    assert max(map(len, told)) <= 1 + MOST_TOLD
    of_crowd = [each.fields for one in told for each in one if each.fields["reason"] != "another"]
    assert [fields["reason"] for fields in of_crowd] == [client.name for client in crowd]
    assert all(fields["metadata"] == {FOLDED: 1} for fields in of_crowd)


def test_no_more_clients_are_remembered_than_the_rule_says() -> None:
    folded = FoldedEvents(Folding(seconds=60, clients=10))
    for number in range(50):
        for _ in range(2):
            folded.admit(Client(f"client {number}", "scan"), event(str(number)), number / 10)
    assert len(folded.drain()) == 10
