"""The agent's methods for code without an event loop; `GuardAgent` has the same as coroutines."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from .. import rules
from ..delivery import registry
from ..delivery.breaker import BreakerState
from ..delivery.delivery import Delivery
from ..emit import Emitter
from ..events import codec
from ..models import AgentStatus, DynamicRules, SecurityMetric
from ..process import end as process_end
from ..process import interruption
from ..queue.base import Kind
from ..settings import late
from ..settings.agent import AgentConfig, settings_of_agent
from ..settings.delivery import GuardConfig
from ..settings.instrumentation import GuardOptions
from ..settings.setting import SettingError
from . import ending
from .errors import EMISSION, RULES, BufferFullError, ErrorReporter
from .held import Held
from .pipeline import Pipeline
from .reading import Reading
from .redis_address import NoAddress, queue_url_of
from .transport import TransportHandle

_logger = logging.getLogger(__name__)

ORIGIN = "AgentConfig"
"""Who offers the settings, in messages."""
REDIS_ORIGIN = "initialize_redis"
"""Who offers the queue."""
FLUSH_SECONDS = 10.0
"""Seconds that `flush_buffer` may take."""
ASK_SECONDS = 5.0
"""Seconds that a poll of the rules may take that somebody waits for."""
ASK_AGAIN_SECONDS = 5.0
"""Seconds after which rules are asked for again that the backend did not have."""


class SyncAgent:
    """What `agent.sync` is: each method has done its work when it returns.

    `stop`, `close` and `flush_buffer` wait for the network, and so does
    `get_dynamic_rules` while no rules are known; the others don't. Any thread
    may call any method. What is sent before `start` is held, bounded, and sent
    then; what is sent after `stop` is written ahead to the delivery's queue,
    for the next start.

    `_lock` guards `_pipeline`, `_started_at` and `_unsubscribe`, and is held
    while the agent starts or stops. Sending takes no lock of ours.
    """

    def __init__(self, config: AgentConfig) -> None:
        """Make an agent; nothing is opened and no thread is started before `start`."""
        self.config = config
        self.closed = False
        self._errors = ErrorReporter(config.on_error)
        self._held = Held()
        self._transport = TransportHandle(self._errors)
        self._pipeline: Pipeline | None = None
        self._started_at: float | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._asked_at = float("-inf")
        self._lock = threading.RLock()
        _all.add(self)

    def send_event(self, event: Any) -> None:
        """Send one security event: a `SecurityEvent`, a mapping of its fields, or an object that has them.

        It neither waits for the network nor raises, with one exception.

        Raises:
            BufferFullError: there is no room, and `buffer_overflow_policy` is ``raise``.
        """
        pipeline, policy = self._pipeline, self.config.buffer_overflow_policy
        if pipeline is None or self._errors.wanted:
            try:
                event = codec.to_row(event)[0]
            except Exception as error:  # noqa: BLE001  reading a stranger's object may raise anything
                self._refuse("events", error, event)
                return
        full = policy != "drop" and (self._held if pipeline is None else pipeline).full()
        if full and policy == "raise" and not interruption.interrupts():
            raise BufferFullError("the agent's buffer is full, and buffer_overflow_policy is 'raise'")
        if pipeline is None:
            self._hold("events", event)
            return
        if full and not interruption.interrupts():
            pipeline.write_ahead()
        pipeline.emitter.emit_event(event)

    def send_metric(self, metric: Any) -> None:
        """Send one security metric: a `SecurityMetric`, a mapping of its fields, or an object that has them.

        It neither waits for the network nor raises.
        """
        try:
            fields = codec.fields_of(metric, SecurityMetric.model_fields)
            if self._errors.wanted:
                SecurityMetric.model_validate(fields)
        except Exception as error:  # noqa: BLE001  reading a stranger's object may raise anything
            self._refuse("metrics", error, metric)
            return
        pipeline = self._pipeline
        if pipeline is None or not pipeline.takes_metrics:
            self._hold("metrics", fields)
        else:
            pipeline.emitter.record_metric(fields)

    def _hold(self, kind: Kind, fields: Mapping[str, object]) -> None:
        self._held.put(kind, fields)
        # The agent may have started meanwhile, and have emitted what it found.
        pipeline = self._pipeline
        if pipeline is not None and pipeline.takes_metrics:
            self._held.emit_into(pipeline.emitter)

    def _refuse(self, kind: Kind, error: Exception, value: Any) -> None:
        """Report what can't be taken; the emitter counts it, and names the first in the log."""
        self._errors.report(EMISSION, error, kind=kind)
        pipeline = self._pipeline
        emitter = Emitter() if pipeline is None else pipeline.emitter
        (emitter.emit_event if kind == "events" else emitter.record_metric)(value)

    def start(self) -> None:
        """Join the application's OpenTelemetry pipelines, and send what was held; a second call does nothing.

        It waits for no network, and sets no global provider.
        """
        with self._lock:
            if self._started_at is not None:
                return
            late.forget(ORIGIN)
            late.offer(ORIGIN, **settings_of_agent(self.config))
            process_end.goes_on()
            self._transport.attach(_delivery_to_be)
            self._pipeline = pipeline = Pipeline(self.config)
            self._transport.attach(lambda: pipeline.delivery)
            if interval := self._rules_interval():
                self._unsubscribe = rules.subscribe(_ignore, interval)
            self._started_at = time.monotonic()
            ending.follow(self.stop)
        # Outside of the lock: emission is anybody's code, which may stop the agent.
        self._held.emit_into(pipeline.emitter)

    def stop(self) -> None:
        """Deliver what can be delivered within the shutdown timeout, and end what `start` has begun.

        What is left waits in the queue for the next start. A second call does nothing.
        """
        ending.apart(self._stop)

    def _stop(self) -> None:
        with self._lock:
            if self._started_at is None or self._pipeline is None:
                return
            self._started_at = None
            if self._unsubscribe is not None:
                self._unsubscribe()
                self._unsubscribe = None
            self._pipeline.end()
            self._transport.end()
            ending.unfollow(self.stop)

    def close(self) -> None:
        """Stop, and forget the agent: the next `guard_agent` makes a new one."""
        self.stop()
        with self._lock:
            first, self.closed = not self.closed, True
        if first:
            # What others have offered stays in force: fastapi-guard's settings, for one.
            late.forget(ORIGIN, REDIS_ORIGIN)

    def flush_buffer(self) -> None:
        """Deliver now what can be delivered; what can't stays in the queue."""
        pipeline = self._pipeline
        if pipeline is not None:
            ending.apart(lambda: pipeline.flush(FLUSH_SECONDS))

    def initialize_redis(self, redis_handler: Any) -> None:
        """Let batches wait in the Redis behind `redis_handler`, from now on, in the place of a local file.

        The address is learned from the handler: a `RedisHandler`, the
        `RedisManager` of fastapi-guard, or a client of redis-py. The
        environment (`OTEL_EXPORTER_GUARD_QUEUE_URL`) wins.

        Raises:
            TypeError: the handler tells no address that a queue can use.
        """
        try:
            late.offer(REDIS_ORIGIN, queue_url=queue_url_of(redis_handler))
        except NoAddress as reason:
            raise TypeError(
                f"initialize_redis: {reason}. Set OTEL_EXPORTER_GUARD_QUEUE_URL to the URL of a Redis, "
                "redis://host:6379/0, or to that of a queue of your own, whose class is registered in the entry point "
                "group opentelemetry_guard_queue"
            ) from None

    def get_dynamic_rules(self) -> DynamicRules | None:
        """Return the rules in force, None where there are none.

        Rules that are known are returned at once; they are kept up to date in
        the background. While none are known, the backend is asked, seldom.
        """
        if self.asks_for_rules:
            self._asked_at = time.monotonic()
            try:
                return rules.refresh(ASK_SECONDS)
            except Exception as error:
                _logger.exception("the dynamic rules could not be asked for")
                self._errors.report(RULES, error)
        return rules.current()

    @property
    def asks_for_rules(self) -> bool:
        """Whether `get_dynamic_rules` waits: none are known, they are wanted, and the last question is seconds old."""
        if rules.current() is not None or self._started_at is None:
            return False
        return time.monotonic() - self._asked_at >= ASK_AGAIN_SECONDS and bool(self._rules_interval())

    def _rules_interval(self) -> float:
        """Return the seconds between two polls, 0 for none; the environment wins."""
        given: float | None = GuardOptions.read("rules_interval")
        return self.config.dynamic_rule_interval if given is None else given

    def get_status(self) -> AgentStatus:
        """Return how the delivery is doing; `errors` says what is wrong and what to do."""
        return self._reading().status

    def _reading(self) -> Reading:
        waiting = 0 if self._pipeline is None else self._pipeline.waiting
        return Reading.of(self.delivery, self._uptime(), len(self._held), waiting)

    def health_check(self) -> bool:
        """Return whether the agent runs, reaches the backend as far as it knows, and loses nothing; it asks nobody."""
        if self._started_at is None or self.get_status().status == "failed":
            return False
        return bool(self._transport.get_stats()["circuit_breaker_state"] != BreakerState.OPEN.value)

    def get_stats(self) -> dict[str, Any]:
        """Return counts of this agent, its buffer and its transport; `uptime` is in seconds."""
        reading, known = self._reading(), rules.current()
        running = self._started_at is not None
        return {
            "running": running,
            "uptime": self._uptime() or 0.0,
            **reading.counts,
            "buffer_stats": {**reading.buffer, "auto_flush_running": running},
            "transport_stats": self._transport.get_stats(),
            "cached_rules": known is not None,
            "rules_version": None if known is None else known.version,
        }

    def _uptime(self) -> float | None:
        started_at = self._started_at
        return None if started_at is None else time.monotonic() - started_at

    @property
    def delivery(self) -> Delivery | None:
        """The delivery that the agent shares with the exporters; None before `start`, and while export is off."""
        return None if self._pipeline is None else self._pipeline.delivery

    @property
    def transport(self) -> Any:
        """What makes the calls; its `get_stats()` tells the breaker's state. Assign a `TransportProtocol` of your own.

        Raises:
            TypeError: what is assigned lacks a method.
        """
        return self._transport.shown

    @transport.setter
    def transport(self, transport: Any) -> None:
        self._transport.use(transport)

    def __repr__(self) -> str:
        state = "running" if self._started_at is not None else "not running"
        return f"<Guard agent for {self.config.endpoint}, project {self.config.project_id!r}, {state}>"

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()
        for part in (self._errors, self._held, self._transport):
            part.reset()


_all: weakref.WeakSet[SyncAgent] = weakref.WeakSet()


def _delivery_to_be() -> Delivery | None:
    """Return the delivery that exporters without settings of their own share, as soon as there is one."""
    try:
        return registry.find(GuardConfig.resolve().destination)
    except SettingError:
        return None  # the exporters say so, and export is off


def _ignore(old: DynamicRules | None, new: DynamicRules) -> None:
    """Take no notice: the subscription is what keeps the rules up to date."""


def _after_fork_in_child() -> None:
    for agent in _all:
        agent._after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
