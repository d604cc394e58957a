"""How each contestant is set up, is given an event, and is waited for until the backend has it.

Each is configured as its documents say. Where a default would make it drop what a benchmark gives it faster than any
application would, its buffer is larger; that costs nobody time.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from datetime import datetime, timezone
from typing import Any

from .backend import stamp

ROOM = 8_192
"""Events that may wait in memory, for whoever has such a bound."""

KEY = "benchmark-key-0123456789"

_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "python-requests/2.32.4",
)


_TRIGGER = "Query param 'q': Value matched pattern '(?i)union\\s+select'"
_KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("ip_blocked", "Banned IP attempted access: {address}", {"filter_type": "banned"}),
    ("rate_limited", "Rate limit exceeded: {count} requests in 60s window", {"rate_limit": 10, "window": 60}),
    ("country_blocked", "Country NL is blocked", {"rule_type": "country_blacklist"}),
    ("penetration_attempt", f"Penetration attempt detected: {_TRIGGER}", {"trigger_info": _TRIGGER}),
)
"""Types, reasons and metadata as guard-core's checks give them."""


def fields(number: int) -> dict[str, Any]:
    """Return the fields of an event: thirteen of them, from one of 250 clients, of four types in turn."""
    event_type, reason, metadata = _KINDS[number % len(_KINDS)]
    address, count = f"203.0.113.{number % 250}", 11 + number % 50
    return {
        "event_type": event_type,
        "ip_address": address,
        "country": "NL",
        "user_agent": _AGENTS[number % len(_AGENTS)],
        "action_taken": "request_blocked",
        "reason": reason.format(address=address, count=count) if "{" in reason else reason,
        "endpoint": f"/items{number % 20}/{{number}}",
        "method": "GET",
        "status_code": 403,
        "response_time": 0.0123,
        "rule_type": "global",
        "handler_name": "middleware",
        "metadata": {**metadata, "request_count": count, "mark": stamp()},
    }


class Pipeline(ABC):
    """One contestant in this process; everything is called from within one event loop.

    `at_once` is how many events may be emitted until `persisted` is waited for.
    """

    at_once = 500

    async def start(self) -> None:  # noqa: B027  most have nothing to do
        """Begin; what needs the event loop is made here."""

    @abstractmethod
    async def emit(self, given: dict[str, Any]) -> None:
        """Take an event as an application gives it."""

    async def emit_model(self, given: dict[str, Any]) -> None:
        """Take an event that is a model of the contestant's own already; making it counts."""
        await self.emit(given)

    @abstractmethod
    async def accepted(self) -> None:
        """Return when the backend has all that was emitted."""

    async def persisted(self) -> None:  # noqa: B027  most have no store
        """Return when all that was emitted is in the store."""

    @abstractmethod
    async def stop(self) -> None:
        """End."""


class Ours(Pipeline):
    """A log pipeline with `GuardLogExporter`, and the global providers."""

    def __init__(self, url: str, store: str = "memory://") -> None:
        from opentelemetry._logs import set_logger_provider
        from opentelemetry.metrics import set_meter_provider
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        from opentelemetry_guard import (
            GuardLogExporter,
            GuardLogProcessor,
            GuardMetricExporter,
            SecurityEvent,
            emit_event,
        )

        settings = {"endpoint": url, "api_key": KEY, "project_id": "bench", "queue_url": store}
        self.exporter = GuardLogExporter(**settings)
        self._logs = LoggerProvider(shutdown_on_exit=False)
        self._logs.add_log_record_processor(GuardLogProcessor(self.exporter, max_queue_size=ROOM))
        set_logger_provider(self._logs)
        self._meters = MeterProvider(
            [PeriodicExportingMetricReader(GuardMetricExporter(**settings))], shutdown_on_exit=False
        )
        set_meter_provider(self._meters)
        self._emit, self._model = emit_event, SecurityEvent

    async def emit(self, given: dict[str, Any]) -> None:
        self._emit(**given)

    async def emit_model(self, given: dict[str, Any]) -> None:
        self._emit(self._model(**given))

    async def accepted(self) -> None:
        await asyncio.to_thread(self._flush)

    async def persisted(self) -> None:
        await asyncio.to_thread(self._logs.force_flush)

    def _flush(self) -> None:
        self._logs.force_flush()
        self.exporter.force_flush(600_000)

    async def stop(self) -> None:
        await asyncio.to_thread(self._logs.shutdown)
        await asyncio.to_thread(self._meters.shutdown)


class Peer(Pipeline):
    """guard-agent, with guard-core's Redis handler where something is to be durable."""

    def __init__(self, url: str, store: str = "memory://", room: int = ROOM) -> None:
        import guard_agent
        from guard_agent.models import SecurityEvent

        self._store = store
        # It writes each event in a task of its own, and guard-core's Redis handler has connections for a few.
        self.at_once = 10 if store.startswith("redis") else 500
        self._config = guard_agent.AgentConfig(
            api_key=KEY, endpoint=url, project_id="bench", buffer_size=room, high_watermark_ratio=1.0
        )
        self._make, self._model = guard_agent.guard_agent, SecurityEvent
        logging.getLogger("guard_agent").setLevel(logging.ERROR)

    async def start(self) -> None:
        self.agent: Any = self._make(self._config)
        if self._store.startswith("redis"):
            from guard_core.handlers.redis_handler import RedisManager
            from guard_core.models import SecurityConfig

            handler = RedisManager(SecurityConfig(enable_redis=True, redis_url=self._store))
            await handler.initialize()
            logging.getLogger("guard_core").setLevel(logging.ERROR)
            await self.agent.initialize_redis(handler)
        await self.agent.start()

    async def emit(self, given: dict[str, Any]) -> None:
        await self.agent.send_event(self._model(timestamp=datetime.now(timezone.utc), **given))

    async def accepted(self) -> None:
        await self.persisted()
        await self.agent.flush_buffer()

    async def persisted(self) -> None:
        while tasks := set(self.agent.buffer._inflight_persist_tasks):
            await asyncio.wait(tasks)

    async def stop(self) -> None:
        await self.agent.stop()


class Otlp(Pipeline):
    """opentelemetry-python's own exporter of log records over OTLP/HTTP, with the same fields as attributes."""

    def __init__(self, url: str) -> None:
        from opentelemetry._logs import SeverityNumber
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

        self._logs = LoggerProvider(shutdown_on_exit=False)
        exporter = OTLPLogExporter(endpoint=f"{url}/v1/logs", compression=Compression.Gzip)
        self._logs.add_log_record_processor(BatchLogRecordProcessor(exporter, max_queue_size=ROOM))
        self._logger = self._logs.get_logger("benchmark")
        self._severity = SeverityNumber.WARN

    async def emit(self, given: dict[str, Any]) -> None:
        metadata = given.pop("metadata")
        attributes = {**given, **{f"metadata.{name}": value for name, value in metadata.items()}}
        self._logger.emit(
            severity_number=self._severity,
            severity_text="WARN",
            event_name="security_event",
            body=given["reason"],
            attributes=attributes,
        )

    async def accepted(self) -> None:
        await asyncio.to_thread(self._logs.force_flush)

    async def stop(self) -> None:
        await asyncio.to_thread(self._logs.shutdown)


class Sentry(Pipeline):
    """sentry-sdk's structured logs, with the same fields as attributes."""

    def __init__(self, url: str) -> None:
        import sentry_sdk.logger

        self._sdk = sentry_sdk
        sentry_sdk.init(url.replace("://", "://key@") + "/1", enable_logs=True, default_integrations=False)

    async def emit(self, given: dict[str, Any]) -> None:
        metadata = given.pop("metadata")
        attributes = {**given, **{f"metadata.{name}": value for name, value in metadata.items()}}
        self._sdk.logger.warning(given["reason"], attributes=attributes)

    async def accepted(self) -> None:
        await asyncio.to_thread(self._sdk.flush, 30)

    async def stop(self) -> None:
        await asyncio.to_thread(self._sdk.flush, 30)


PIPELINES: dict[str, type[Pipeline]] = {"ours": Ours, "peer": Peer, "otlp": Otlp, "sentry": Sentry}
