"""The agent of the documents: a thin layer over OpenTelemetry and the delivery."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from .. import rules
from ..delivery import registry
from ..delivery.breaker import BreakerState
from ..delivery.delivery import Delivery
from ..emit import Emitter
from ..events import codec
from ..exporters.event_rows import rows_of_records
from ..models import AgentStatus, DynamicRules, SecurityMetric
from ..process import end as process_end
from ..process import interruption
from ..protocols import RedisHandlerProtocol
from ..queue.base import Kind
from ..settings import late
from ..settings.agent import AgentConfig, differences, settings_of_agent
from ..settings.delivery import GuardConfig
from ..settings.instrumentation import GuardOptions
from ..settings.once import log_once
from ..settings.setting import SettingError
from . import ending
from .copies import Copies
from .errors import EMISSION, RULES, BufferFullError, ErrorReporter
from .held import Held
from .pipeline import Pipeline
from .reading import Reading
from .redis_address import NoAddress, queue_url_of
from .settled import DONE, AskedRules, Deferred, Flag, NoRules, Settled, SettledRules, SettledStatus, marked
from .transport_handle import TransportHandle

_logger = logging.getLogger(__name__)

ORIGIN = "AgentConfig"
"""Who offers the settings, in messages."""
REDIS_ORIGIN = "initialize_redis"
"""Who offers the queue."""
CLOSE_COPIES_SECONDS = 1.0
"""Seconds that the last copies of events may take at the end."""
FLUSH_SECONDS = 10.0
"""Seconds that `flush_buffer` may take."""
ASK_SECONDS = 5.0
"""Seconds that a poll of the rules may take that somebody waits for."""
ASK_AGAIN_SECONDS = 5.0
"""Seconds after which rules are asked for again that the backend did not have."""


class GuardAgent:
    """What `guard_agent` returns. Its methods serve async and sync code alike.

    What a method does is done when it returns, and its result may be awaited,
    or used as it is. Three methods wait for the network: `stop`,
    `flush_buffer` and `close`, and `get_dynamic_rules` while no rules are
    known. Called where an event loop runs, those work in a thread when they
    are awaited, so that the loop is never blocked; called anywhere else they
    work at once.

    Any thread and any event loop may call any method. What is sent before
    `start` is held, bounded, and sent then; what is sent after `stop` is
    written ahead to the delivery's queue, for the next start.

    `_lock` guards `_pipeline`, `_started_at` and `_unsubscribe`, and is held
    while the agent starts or stops. Sending takes no lock of ours.
    """

    def __init__(self, config: AgentConfig) -> None:
        """Make an agent; nothing is opened and no thread is started before `start`."""
        self.config = config
        self._errors = ErrorReporter(config.on_error)
        self._held = Held()
        self._transport = TransportHandle(self._errors)
        self._pipeline: Pipeline | None = None
        self._started_at: float | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._asked_at = float("-inf")
        self._copies: Copies | None = None
        self._reset_lock()
        _all.add(self)

    def _reset_lock(self) -> None:
        self._lock = threading.RLock()

    @marked
    def send_event(self, event: Any) -> Settled[None]:
        """Send one security event: a `SecurityEvent`, a mapping of its fields, or an object that has them.

        It neither waits for the network nor raises, with one exception.

        Raises:
            BufferFullError: there is no room, and `buffer_overflow_policy` is ``raise``.
        """
        if self._errors.wanted or self._pipeline is None:
            try:
                event = codec.to_row(event)[0]
            except Exception as error:  # noqa: BLE001  reading a stranger's object may raise anything
                self._refuse("events", error, event)
                return DONE
        self._send("events", event)
        return DONE

    @marked
    def send_metric(self, metric: Any) -> Settled[None]:
        """Send one security metric: a `SecurityMetric`, a mapping of its fields, or an object that has them.

        It neither waits for the network nor raises.
        """
        try:
            metric = codec.fields_of(metric, SecurityMetric.model_fields)
            if self._errors.wanted:
                SecurityMetric.model_validate(metric)
        except Exception as error:  # noqa: BLE001  reading a stranger's object may raise anything
            self._refuse("metrics", error, metric)
            return DONE
        self._send("metrics", metric)
        return DONE

    def _send(self, kind: Kind, value: Any) -> None:
        pipeline = self._pipeline
        if pipeline is None or (kind == "metrics" and not pipeline.takes_metrics):
            self._hold(kind, value)
            return
        if kind == "metrics":
            pipeline.emitter.record_metric(value)
            return
        if self.config.buffer_overflow_policy != "drop" and pipeline.full() and not interruption.interrupts():
            if self.config.buffer_overflow_policy == "raise":
                raise _no_room()
            pipeline.write_ahead()
        pipeline.emitter.emit_event(value)

    def _hold(self, kind: Kind, value: Any) -> None:
        if kind == "events" and self.config.buffer_overflow_policy == "raise" and self._held.full():
            raise _no_room()
        self._held.put(kind, value)
        # The agent may have started meanwhile, and have emitted what it found.
        pipeline = self._pipeline
        if pipeline is not None and pipeline.takes_metrics:
            self._held.emit_into(pipeline.emitter)

    def _refuse(self, kind: Kind, error: Exception, value: Any) -> None:
        """Report what can't be taken; the emitter counts it, and names the first in the log."""
        self._errors.report(EMISSION, error, kind=kind)
        pipeline = self._pipeline
        emitter = _bare_emitter() if pipeline is None else pipeline.emitter
        if kind == "events":
            emitter.emit_event(value)
        else:
            emitter.record_metric(value)

    @marked
    def start(self) -> Settled[None]:
        """Join the application's OpenTelemetry pipelines, and send what was held; a second call does nothing.

        It waits for no network, and sets no global provider.
        """
        with self._lock:
            if self._started_at is None:
                late.forget(ORIGIN)
                late.offer(ORIGIN, **settings_of_agent(self.config))
                process_end.goes_on()
                self._transport.attach(_delivery_to_be)
                self._pipeline = pipeline = Pipeline(self.config)
                self._transport.attach(lambda: pipeline.delivery)
                self._begin_copies()
                if interval := self._rules_interval():
                    self._unsubscribe = rules.subscribe(_ignore, interval)
                self._started_at = time.monotonic()
                ending.follow(self)
            emitter = self._pipeline.emitter if self._pipeline is not None else None
        if emitter is not None:
            self._held.emit_into(emitter)
        return DONE

    @marked
    def stop(self) -> Settled[None]:
        """Deliver what can be delivered within the shutdown timeout, and end what `start` has begun.

        What is left waits in the queue for the next start. A second call does nothing.
        """
        return _in_a_thread(self.end)

    def end(self) -> None:
        """Stop at once, on the calling thread."""
        with self._lock:
            pipeline, started = self._pipeline, self._started_at is not None
            unsubscribe, self._unsubscribe = self._unsubscribe, None
            self._started_at = None
            if unsubscribe is not None:
                unsubscribe()
            if started and pipeline is not None:
                pipeline.end()
                self._transport.end()
                if self._copies is not None:
                    self._copies.end(CLOSE_COPIES_SECONDS)
                ending.unfollow(self)

    @marked
    def close(self) -> Settled[None]:
        """Stop, and forget the agent: the next `guard_agent` makes a new one."""
        return _in_a_thread(self._close)

    def _close(self) -> None:
        self.end()
        with _singleton_lock:
            global _singleton
            if _singleton is self:
                _singleton = None
                # What others have offered stays in force: fastapi-guard's settings, for one.
                late.forget(ORIGIN, REDIS_ORIGIN)

    @marked
    def flush_buffer(self) -> Settled[None]:
        """Deliver now what can be delivered; what can't stays in the queue."""
        return _in_a_thread(self._flush)

    def _flush(self) -> None:
        pipeline = self._pipeline
        if pipeline is not None:
            pipeline.flush(FLUSH_SECONDS)

    @marked
    def initialize_redis(self, redis_handler: Any) -> Settled[None]:
        """Let batches wait in the Redis behind `redis_handler`, from now on, in the place of a local file.

        The address is learned from the handler: a `RedisHandler`, the
        `RedisManager` of fastapi-guard, or a client of redis-py. The
        environment (`OTEL_EXPORTER_GUARD_QUEUE_URL`) wins. Any other object
        with the methods of `RedisHandlerProtocol` gets copies of undelivered
        events, for a machine that does not come back; it is named in a warning.

        Raises:
            TypeError: it has neither an address nor the methods.
        """
        try:
            late.offer(REDIS_ORIGIN, queue_url=queue_url_of(redis_handler))
        except NoAddress as reason:
            if not isinstance(redis_handler, RedisHandlerProtocol):
                raise TypeError(f"initialize_redis takes a RedisHandler or a RedisHandlerProtocol: {reason}") from None
            log_once(
                _logger,
                logging.WARNING,
                f"initialize_redis: {reason}. Batches wait in the local queue, and events have copies in that store; "
                "metrics have none. Set OTEL_EXPORTER_GUARD_QUEUE_URL=redis://host/0 to let a fleet share the queue",
            )
            with self._lock:
                self._copies = Copies(redis_handler, _running_loop(), self._encryption_key, self.send_event)
                if self._started_at is not None:
                    self._begin_copies()
        return DONE

    def _begin_copies(self) -> None:
        copies, pipeline = self._copies, self._pipeline
        if copies is None or pipeline is None:
            return
        if pipeline.tap(lambda records: copies.keep(rows_of_records(records))):
            self._transport.on_delivered = copies.forget
            copies.start()
        else:
            log_once(
                _logger,
                logging.WARNING,
                "initialize_redis: the application's own exporters write the events ahead, so there are no copies of "
                "them; set OTEL_EXPORTER_GUARD_QUEUE_URL to the URL of that Redis",
            )

    def _encryption_key(self) -> str | None:
        delivery = self.delivery
        return self.config.project_encryption_key if delivery is None else delivery.config.encryption_key

    @marked
    def get_dynamic_rules(self) -> SettledRules:
        """Return the rules in force; awaited None, and otherwise something empty and false, where there are none.

        Rules that are known are returned at once; they are kept up to date in
        the background. While none are known, the backend is asked, seldom.
        """
        known = rules.current()
        if known is not None or not self._may_ask():
            return _settled(known)
        self._asked_at = time.monotonic()
        if _running_loop() is not None:
            return AskedRules.by(asyncio.to_thread(self._ask_for_rules))
        return _settled(self._ask_for_rules())

    def _may_ask(self) -> bool:
        """Whether rules are wanted at all, and the last question is some seconds old."""
        running, waited = self._started_at is not None, time.monotonic() - self._asked_at
        return running and waited >= ASK_AGAIN_SECONDS and bool(self._rules_interval())

    def _rules_interval(self) -> float:
        """Return the seconds between two polls, 0 for none; the environment wins."""
        given: float | None = GuardOptions.read("rules_interval")
        return self.config.dynamic_rule_interval if given is None else given

    def _ask_for_rules(self) -> DynamicRules | None:
        try:
            return rules.refresh(ASK_SECONDS)
        except Exception as error:
            _logger.exception("the dynamic rules could not be asked for")
            self._errors.report(RULES, error)
            return rules.current()

    @marked
    def get_status(self) -> SettledStatus:
        """Return how the delivery is doing; `errors` says what is wrong and what to do."""
        return SettledStatus.model_construct(**dict(self._status()))

    def _status(self) -> AgentStatus:
        return self._reading().status

    def _reading(self) -> Reading:
        waiting = 0 if self._pipeline is None else self._pipeline.waiting
        return Reading.of(self.delivery, self._uptime(), len(self._held), waiting)

    @marked
    def health_check(self) -> Flag:
        """Return whether the agent runs, reaches the backend as far as it knows, and loses nothing; it asks nobody."""
        if self._started_at is None or self._status().status == "failed":
            return Flag(False)
        return Flag(self._transport.get_stats()["circuit_breaker_state"] != BreakerState.OPEN.value)

    def get_stats(self) -> dict[str, Any]:
        """Return counts of this agent, its buffer and its transport; `uptime` is in seconds."""
        reading = self._reading()
        known = rules.current()
        return {
            "running": self._started_at is not None,
            "uptime": self._uptime() or 0.0,
            **reading.counts,
            "buffer_stats": {**reading.buffer, "auto_flush_running": self._started_at is not None},
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
        return f"<GuardAgent for {self.config.endpoint}, project {self.config.project_id!r}, {state}>"


_all: weakref.WeakSet[GuardAgent] = weakref.WeakSet()
_singleton_lock = threading.Lock()
_singleton: GuardAgent | None = None  # guarded by _singleton_lock


def guard_agent(config: AgentConfig) -> GuardAgent:
    """Return the agent of this process, made at the first call. No event loop need run, and nothing is begun.

    A later call with other settings returns the same agent, and says once in
    the log which settings are not used.

    Raises:
        TypeError: `config` is no `AgentConfig`.

    Example::

        agent = guard_agent(AgentConfig(api_key="...", project_id="..."))
        agent.start()
        agent.send_event(SecurityEvent(event_type="custom_rule_triggered", ip_address="192.0.2.7"))
    """
    global _singleton
    if not isinstance(config, AgentConfig):
        given = f"{type(config).__module__}.{type(config).__name__}"
        raise TypeError(
            f"guard_agent takes an AgentConfig of opentelemetry_guard, not a {given}: AgentConfig(api_key=...)"
        )
    with _singleton_lock:
        if _singleton is None:
            _singleton = GuardAgent(config)
        agent = _singleton
    if agent.config is not config and (different := differences(agent.config, config)):
        log_once(
            _logger,
            logging.WARNING,
            f"guard_agent was called again with other settings; there is one agent a process, and the first call's "
            f"settings stay: {'; '.join(different)}. Call agent.close() first to begin anew",
        )
    return agent


def _delivery_to_be() -> Delivery | None:
    """Return the delivery that exporters without settings of their own share, as soon as there is one."""
    try:
        return registry.find(GuardConfig.resolve().destination)
    except SettingError:
        return None  # the exporters say so, and export is off


def _bare_emitter() -> Emitter:
    """Return an emitter for what is refused before it comes to any provider."""
    return Emitter()


def _no_room() -> BufferFullError:
    return BufferFullError("the agent's buffer is full, and buffer_overflow_policy is 'raise'")


def _ignore(old: DynamicRules | None, new: DynamicRules) -> None:
    """Take no notice: the subscription is what keeps the rules up to date."""


def _settled(known: DynamicRules | None) -> SettledRules:
    return NoRules() if known is None else SettledRules.model_construct(**dict(known))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _in_a_thread(work: Callable[[], None]) -> Settled[None]:
    """Work at once, or when awaited where an event loop runs; it is the thread that waits for the network."""
    if _running_loop() is not None:
        return Deferred(asyncio.to_thread(work))
    ending.apart(work)
    return DONE


def _after_fork_in_child() -> None:
    global _singleton_lock
    _singleton_lock = threading.Lock()
    for agent in _all:
        agent._reset_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
