"""The pages whose times are measured, by what is looked at; ``{...}`` stands for a place in the data.

`place` is one in the list of events, `moment` a time; `attacker` an address that many events are of, `address` one that
few are of, and `key` the correlation key of an incident of that; `trace` is one of an event; `newest` the id of one of
the last events; `event` and `incident` are ids.
"""

from __future__ import annotations

PAGES = {
    "overview, 1 hour": "/",
    "overview, 6 hours": "/?window=6h",
    "overview, 24 hours": "/?window=24h",
    "overview, 7 days": "/?window=7d",
    "events": "/events",
    "events, far back": "/events?before={place}",
    "events of a type": "/events?event_type={kind}",
    "events of an address": "/events?address={attacker}",
    "events of an address that few are of": "/events?address={address}",
    "events of an address that none is of": "/events?address=192.0.2.1",
    "events of an endpoint": "/events?endpoint={endpoint}",
    "events of a service": "/events?service=shop",
    "events of an address and a type": "/events?address={attacker}&event_type={kind}",
    "events of a type and an action that don't meet": "/events?event_type=ip_blocked&action=logged",
    "events, addresses that begin alike": "/events?address=10.0.*",
    "events, nothing begins like this": "/events?endpoint=/none*",
    "events, nothing begins like this, far back": "/events?endpoint=/none*&before={place}",
    "events of all filters together": (
        "/events?event_type=rate_limited&action=request_blocked&address=10.0.*&endpoint=/items/3*&service=shop&within=7d"
    ),
    "events of a type in an hour": "/events?event_type={kind}&within=1h",
    "events of a trace": "/events?trace={trace}",
    "events of a trace that none is of": "/events?trace=4bf92f3577b34da6a3ce929d0e0e4736",
    "events of a user agent that none has": "/events?user_agent=none",
    "events of an address and a user agent that none has": "/events?address={attacker}&user_agent=none",
    "events of a type and a user agent that none has": "/events?event_type={kind}&user_agent=none",
    "events of a user agent that is elsewhere in all rows": "/events?user_agent=rate",
    "events of a correlation key that none has, far back": "/events?correlation_key=none&before={place}",
    "events of an incident's key": "/events?correlation_key={key}&address={address}",
    "new events since the last look": "/events/rows?after={newest}",
    "one event": "/events/{event}",
    "incidents": "/incidents",
    "incidents of a state that none has": "/incidents?state=closed",
    "incidents of a severity": "/incidents?severity=high",
    "one incident": "/incidents/{incident}",
    "alerts": "/alerts",
    "agents": "/agents",
    "rules": "/rules",
    "JSON: summary": "/local/summary",
    "JSON: the latest 100 events": "/local/events",
    "JSON: the latest 100 of a type": "/local/events?event_type={kind}",
    "JSON: the latest 100 incidents": "/local/incidents",
    "JSON: agents": "/local/agents",
    "feed": "/local/feed",
    "feed, further back": "/local/feed?after={event}",
    "export as CSV, its first rows": "/events/export?format=csv",
    "export of an address as JSON, its first rows": "/events/export?format=json&address={attacker}",
    "export as OCSF, far back, its first rows": "/events/export?format=ocsf&until={moment}",
}
