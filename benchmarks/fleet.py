"""A fleet of agents after an outage, in virtual time: ``make simulate``.

Every agent has the product's own route (its breaker, its limiter, what it knows of an outage) and retry policy; the
server, and what drives the agents, are made here. An agent sends as the sender does: what was never tried first, every
fourth request the oldest, one request at a time.

The server takes `capacity` requests a second and lets half a second's work wait (or, as a *strict* one, has a token
bucket for a tenth of a second, and no answer is slower than another). What comes beyond that is refused with 503, and
that costs it something too.
"""

from __future__ import annotations

import argparse
import heapq
import logging
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from opentelemetry_guard.delivery.backoff import RetryPolicy
from opentelemetry_guard.delivery.outage import FLEET_SIZE, LASTS, Outage
from opentelemetry_guard.delivery.outcome import Outcome, Verdict
from opentelemetry_guard.delivery.route import Route

QUEUE_SECONDS = 0.5
"""Seconds of work that wait in the server at most."""
BUCKET_SECONDS = 0.1
"""Seconds of its capacity that a strict server saves up."""
REFUSAL_COST = 0.1
"""What refusing a request takes of the server, as a share of what taking it does."""
ROUND_TRIP = 0.02
"""Seconds that a request and its answer are on their way."""
BEFORE_SECONDS = 40.0
"""Seconds before the outage, in which every agent sends one request."""
BACKLOG_TURN = 4
"""Every fourth request is the oldest, as in the sender."""
LASTED = 60
"""Seconds of the outage after which probes are counted."""
NEARLY, ENTIRELY = 0.05, 0.001
"""Shares of what waited at the recovery that are left when it has nearly gone, and when it has gone."""

_ACCEPTED = Outcome(Verdict.ACCEPTED, 200)
_NOBODY = Outcome(Verdict.RETRY, 0, "connection refused")


@dataclass(frozen=True)
class Scenario:
    """What is simulated; times are seconds, and the outage begins at 0.

    Attributes:
        agents: how many there are.
        fleet_size: how many each of them is told that there are.
        capacity: requests a second that the server takes in all.
        outage: how long it takes none.
        retry_after: what it asks for with every refusal.
        answered: whether it refuses during the outage; else nobody answers.
        strict: whether it is a strict one.
        backlog: requests that each agent makes during the outage.
        load: share of the capacity that fresh requests take from then on.
        restart: the time in which all agents are restarted one after the other, from the recovery on.
        shards: parts of the server, each with its share of agents and capacity.
        slow_shard: share of its capacity that the first of them has left.
        limit: when the simulation ends whatever is left, counted from the recovery.
        seed: of chance.
    """

    agents: int = 10_000
    fleet_size: int = 10_000
    capacity: float = 2_000.0
    outage: float = 120.0
    retry_after: float | None = None
    answered: bool = True
    strict: bool = False
    backlog: int = 20
    load: float = 0.0
    restart: float = 0.0
    shards: int = 1
    slow_shard: float = 1.0
    limit: float = 1_800.0
    seed: int = 1


@dataclass(frozen=True)
class Figures:
    """What came of it; times are seconds since the recovery, infinite for what did not happen within the limit.

    Attributes:
        goodput: accepted requests as a share of what each shard could have taken until its backlog had nearly gone.
        refused: share of the requests after the recovery.
        largest: requests of the busiest 100 ms after it, as a multiple of the capacity.
        nearly: when 95 % of what had waited was accepted, of every shard.
        drained: when all of it was (but a thousandth).
        probes: requests a second during the outage, once it has lasted a minute.
        most_probes: those of the busiest such second.
        back: when the last agent had something accepted.
        fresh_delay: median of the seconds from a fresh request's making to its acceptance.
    """

    goodput: float
    refused: float
    largest: float
    nearly: float
    drained: float
    probes: float
    most_probes: int
    back: float
    fresh_delay: float


class Server:
    """One shard."""

    def __init__(self, capacity: float, scenario: Scenario) -> None:
        self.capacity = capacity
        self.waiting = 0
        self.waited = 0  # at the recovery
        self.accepted = 0  # between the recovery and `nearly`, seconds after it
        self.nearly = float("inf")
        self._scenario = scenario
        self._busy_until = 0.0
        self._refusal = Outcome(Verdict.RETRY, 503, "too much to do", scenario.retry_after)

    def settle(self, now: float) -> None:
        """Note that a request of its agents was accepted."""
        self.waiting -= 1
        if now >= self._scenario.outage and self.nearly == float("inf"):
            self.accepted += 1
            if self.waiting <= NEARLY * self.waited:
                self.nearly = now - self._scenario.outage

    def answer(self, now: float) -> tuple[Outcome, float]:
        """Return the answer to a request, and the seconds until it is there."""
        if now < 0:
            return _ACCEPTED, ROUND_TRIP
        if now < self._scenario.outage:
            return (self._refusal if self._scenario.answered else _NOBODY), ROUND_TRIP
        self._busy_until = max(self._busy_until, now)
        waiting = self._busy_until - now
        taken = waiting < (BUCKET_SECONDS if self._scenario.strict else QUEUE_SECONDS)
        self._busy_until += (1.0 if taken else REFUSAL_COST) / self.capacity
        if not taken:
            return self._refusal, ROUND_TRIP
        return _ACCEPTED, ROUND_TRIP + (0.0 if self._scenario.strict else waiting)


@dataclass(order=True)
class Request:
    """A request that was refused: when it is due again, when it was made, how often it has failed."""

    due_at: float
    made_at: float
    failures: int = 0


@dataclass
class Agent:
    """One process and its queue."""

    route: Route
    server: Server
    fresh: list[float] = field(default_factory=list)
    deferred: list[Request] = field(default_factory=list)
    turns: int = 0
    sending: bool = False
    wakes_at: float = float("inf")
    back: bool = False

    def take(self, now: float) -> Request | None:
        """Take the request that goes next, if one is due."""
        due = bool(self.deferred) and self.deferred[0].due_at <= now
        self.turns += 1
        if due and (not self.fresh or self.turns % BACKLOG_TURN == 0):
            return heapq.heappop(self.deferred)
        return Request(now, self.fresh.pop()) if self.fresh else None

    def due_at(self, now: float) -> float:
        """Return when a request is due; infinite if none waits."""
        if self.fresh:
            return now
        return self.deferred[0].due_at if self.deferred else float("inf")


class Simulation:
    """Agents, shards, and the heap of what happens next."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._random = random.Random(scenario.seed)
        share = scenario.capacity / scenario.shards
        capacities = [share] * scenario.shards
        if scenario.shards > 1:
            capacities[0] *= scenario.slow_shard
        self._servers = [Server(capacity, scenario) for capacity in capacities]
        self._agents = [Agent(self._route(), self._servers[n % scenario.shards]) for n in range(scenario.agents)]
        self._retry = RetryPolicy(uniform=self._random.uniform)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._pushed = 0
        self._drained = float("inf")
        self._requests: list[tuple[float, bool]] = []  # after the recovery: when, and whether it was accepted
        self._probes: Counter[int] = Counter()
        self._back: list[float] = []
        self._delays: list[float] = []

    def run(self) -> Figures:
        """Let it happen."""
        scenario = self.scenario
        for number, agent in enumerate(self._agents):
            self._at(-self._random.uniform(1.0, BEFORE_SECONDS), self._makes(agent, float("inf")))
            every = scenario.outage / scenario.backlog
            self._at(self._random.uniform(0.0, every), self._makes(agent, every))
            if scenario.restart:
                at = scenario.outage + scenario.restart * number / scenario.agents
                self._at(at, self._restarts(agent))
        end = scenario.outage + scenario.limit
        while self._events and self._drained == float("inf"):
            now, _, happens = heapq.heappop(self._events)
            if now >= end:
                break
            happens(now)
        return self._figures()

    def _route(self) -> Route:
        uniform = self._random.uniform
        return Route("events", outage=Outage(self.scenario.fleet_size, uniform), uniform=uniform)

    def _at(self, at: float, happens: Callable[[float], None]) -> None:
        self._pushed += 1
        heapq.heappush(self._events, (at, self._pushed, happens))

    def _makes(self, agent: Agent, every: float) -> Callable[[float], None]:
        """Return what makes a request, and the next one `every` so many seconds, until the recovery."""
        scenario = self.scenario

        def happens(now: float) -> None:
            agent.fresh.append(now)
            agent.server.waiting += 1
            if now < scenario.outage:
                agent.server.waited = agent.server.waiting
            self._wake(agent, now)
            pause = every
            if now + every > scenario.outage:
                pause = scenario.agents / (scenario.load * scenario.capacity) if scenario.load else float("inf")
            if every < float("inf") and pause < float("inf"):
                first = now < scenario.outage < now + every
                at = scenario.outage + self._random.uniform(0.0, pause) if first else now + pause
                self._at(at, happens)

        return happens

    def _restarts(self, agent: Agent) -> Callable[[float], None]:
        def happens(now: float) -> None:
            agent.route = self._route()
            waits = [*agent.fresh, *(request.made_at for request in agent.deferred)]
            if waits and min(waits) < now - LASTS:
                agent.route.outage.remember(now)
            agent.deferred = [replace(request, due_at=now) for request in agent.deferred]
            self._wake(agent, now)

        return happens

    def _wake(self, agent: Agent, now: float) -> None:
        at = max(agent.due_at(now), agent.route.ready_at(now))
        if agent.sending or at >= agent.wakes_at:
            return
        agent.wakes_at = at

        def happens(now: float) -> None:
            if now == agent.wakes_at:
                agent.wakes_at = float("inf")
                self._send(agent, now)

        self._at(at, happens)

    def _send(self, agent: Agent, now: float) -> None:
        if agent.sending:
            return
        if agent.route.ready_at(now) > now + 1e-6 or (request := agent.take(now)) is None:
            self._at(now + 1e-3, lambda now: self._wake(agent, now))
            return
        agent.sending = True
        agent.route.begin(now)
        outcome, seconds = agent.server.answer(now)
        accepted = outcome.verdict is Verdict.ACCEPTED
        if now >= self.scenario.outage:
            self._requests.append((now - self.scenario.outage, accepted))
            if accepted and not agent.back:
                agent.back = True
                self._back.append(now - self.scenario.outage)
        elif now >= LASTED:
            self._probes[int(now)] += 1
        route = agent.route  # a restart in between forgets what this one learns
        self._at(now + seconds, lambda now: self._answered(agent, route, request, outcome, now))

    def _answered(self, agent: Agent, route: Route, request: Request, outcome: Outcome, now: float) -> None:
        agent.sending = False
        route.settle(outcome, now)
        if outcome.verdict is Verdict.ACCEPTED:
            agent.server.settle(now)
            left, waited = (sum(counts) for counts in zip(*((s.waiting, s.waited) for s in self._servers), strict=True))
            if now >= self.scenario.outage and left <= ENTIRELY * waited:
                self._drained = now - self.scenario.outage
            if request.made_at >= self.scenario.outage:
                self._delays.append(now - request.made_at)
        else:
            failures = request.failures + 1
            heapq.heappush(agent.deferred, Request(now + self._retry.delay(failures), request.made_at, failures))
        agent.wakes_at = float("inf")
        self._wake(agent, now)

    def _figures(self) -> Figures:
        possible = sum(server.capacity * min(server.nearly, self.scenario.limit) for server in self._servers)
        windows = Counter(int(at * 10) for at, _ in self._requests)
        counted = [self._probes[second] for second in range(LASTED, int(self.scenario.outage))]
        return Figures(
            goodput=sum(server.accepted for server in self._servers) / possible,
            refused=sum(not taken for _, taken in self._requests) / max(1, len(self._requests)),
            largest=max(windows.values(), default=0) * 10 / self.scenario.capacity,
            nearly=max(server.nearly for server in self._servers),
            drained=self._drained,
            probes=sum(counted) / max(1, len(counted)),
            most_probes=max(counted, default=0),
            back=max(self._back) if len(self._back) == self.scenario.agents else float("inf"),
            fresh_delay=sorted(self._delays)[len(self._delays) // 2] if self._delays else 0.0,
        )


def simulate(scenario: Scenario) -> Figures:
    """Return the figures of a scenario; the same for the same scenario."""
    return Simulation(scenario).run()


def scenarios(agents: int, seed: int) -> dict[str, Scenario]:
    """Return what ``make simulate`` shows: a fleet of 10,000, or a smaller one with as much less capacity."""
    share = agents / 10_000
    fast = Scenario(agents, capacity=2_000 * share, seed=seed)
    slow = replace(fast, capacity=500 * share)
    alone = Scenario(1, FLEET_SIZE, 200.0, seed=seed)
    asking = 30.0
    return {
        "2,000/s": fast,
        "2,000/s, Retry-After": replace(fast, retry_after=asking),
        "500/s": slow,
        "500/s, Retry-After": replace(slow, retry_after=asking),
        "2,000/s, strict": replace(fast, strict=True),
        "500/s, strict": replace(slow, strict=True),
        "2,000/s, fresh requests take 20 %": replace(fast, load=0.2),
        "500/s, fresh requests take 20 %": replace(slow, load=0.2),
        "2,000/s, all agents restarted within a minute": replace(fast, restart=60.0),
        "2,000/s, one of ten shards has a tenth": replace(fast, shards=10, slow_shard=0.1),
        "2,000/s, nobody answers in the outage": replace(fast, answered=False),
        "2,000/s, agents don't know how many they are": replace(fast, fleet_size=FLEET_SIZE),
        "one agent, nobody answers in the outage": replace(alone, answered=False),
        "one agent, 503 in the outage": alone,
        "one agent, 503 and Retry-After": replace(alone, retry_after=asking),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, and print a line for each scenario."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--agents", type=int, default=10_000, help="agents of the fleet; the capacity goes with them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only scenarios whose name holds this")
    options = parser.parse_args(arguments)
    logging.disable(logging.WARNING)
    heads = ("goodput", "refused", "100 ms", "95 %", "drained", "probes/s", "at most", "all back", "fresh")
    print(f"{'':<48}" + "".join(f"{head:>9}" for head in heads))
    for name, scenario in scenarios(options.agents, options.seed).items():
        if options.only in name:
            f = simulate(scenario)
            print(
                f"{name:<48}{f.goodput:>9.0%}{f.refused:>9.0%}{f.largest:>8.2f}x{f.nearly:>8.0f}s{f.drained:>8.0f}s"
                f"{f.probes:>9.1f}{f.most_probes:>9}{f.back:>8.0f}s{f.fresh_delay:>8.2f}s"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
