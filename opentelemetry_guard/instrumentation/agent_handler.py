"""The agent handler that fastapi-guard gets from us: what guard-core sends to its agent goes into OpenTelemetry."""

from __future__ import annotations

import inspect
import logging
from datetime import datetime, timezone
from typing import Any

from .. import capture, codec
from ..emit import emit_event, record_metric
from ..models import SecurityMetric
from ..once import log_once
from ..tally import TALLY
from . import request_following
from .noise import FOLDED, NoiseFilter, is_noise
from .reports import Report, is_about_request

_logger = logging.getLogger(__name__)

LIBRARY = "guard_core"
"""The name under which `opentelemetry_guard.capture` knows that guard-core's events arrive here."""

_REQUEST_METRICS = frozenset({"request_count", "response_time", "error_rate"})
_METRIC_FIELDS = tuple(SecurityMetric.model_fields)


class GuardAgentHandler:
    """guard-core's AgentHandlerProtocol on top of `emit_event` and `record_metric`.

    Nothing here raises, waits or buffers beyond the answer to the request.
    While it is not active it takes everything and keeps nothing.
    """

    def __init__(self) -> None:
        self.active = False
        self._noise = NoiseFilter()

    async def send_event(self, event: object) -> None:
        """Take one event: at once where it is about guard-core itself, with its request's answer otherwise."""
        if not self.active:
            return
        capture.begin(LIBRARY)
        try:
            self._take(codec.fields_of(event))
        except Exception as error:  # noqa: BLE001  reading a stranger's object may raise anything
            _complain("event", error)
            emit_event(event)  # type: ignore[arg-type]  # it says and counts what it can't read

    async def send_metric(self, metric: object) -> None:
        """Take one metric, unless an HTTP instrumentation measures the same of the request."""
        if not self.active:
            return
        try:
            _take_metric(codec.fields_of(metric, _METRIC_FIELDS))
        except Exception as error:  # noqa: BLE001  reading a stranger's object may raise anything
            _complain("metric", error)

    def _take(self, report: Report) -> None:
        report.setdefault("timestamp", datetime.now(timezone.utc))
        event_type = str(report.get("event_type"))
        if is_noise(event_type):
            folded = self._noise.admit(event_type)
            if folded is None:
                return
            if folded:
                metadata = report.get("metadata")
                report["metadata"] = {**(metadata if isinstance(metadata, dict) else {}), FOLDED: folded}
        request = request_following.current()
        if request is not None and is_about_request(report):
            request.report(report)
        else:
            emit_event(report)

    async def start(self) -> None:
        """Do nothing: OpenTelemetry's pipelines run already."""

    async def stop(self) -> None:
        """Do nothing: OpenTelemetry's providers flush at their own shutdown."""

    async def flush_buffer(self) -> None:
        """Do nothing: nothing is buffered here."""

    async def initialize_redis(self, redis_handler: object) -> None:
        """Do nothing: fastapi-guard's Redis is not our queue."""

    async def get_dynamic_rules(self) -> None:
        """Return None: there are no rules from here."""

    async def health_check(self) -> bool:
        """Return True: there is nothing here that could be down."""
        return True

    def get_stats(self) -> dict[str, object]:
        """Return this process's counts, which `SecurityMiddleware.agent_stats` shows."""
        counts = TALLY.read()
        return {"emitted": counts.emitted, "dropped": counts.dropped}


class BesideAgent:
    """The application's own agent with ours beside it: both receive, everything else is the application's agent's."""

    def __init__(self, theirs: Any, ours: GuardAgentHandler) -> None:
        self._theirs = theirs
        self._ours = ours

    def __getattr__(self, name: str) -> Any:
        return getattr(self._theirs, name)

    async def send_event(self, event: object) -> None:
        """Send an event to both; what the application's agent raises is guard-core's to handle, as without us."""
        await self._ours.send_event(event)
        sent = self._theirs.send_event(event)
        if inspect.isawaitable(sent):
            await sent

    async def send_metric(self, metric: object) -> None:
        """Send a metric to both."""
        await self._ours.send_metric(metric)
        sent = self._theirs.send_metric(metric)
        if inspect.isawaitable(sent):
            await sent


def _take_metric(fields: dict[str, object]) -> None:
    metric_type = fields.get("metric_type")
    if metric_type not in _REQUEST_METRICS:
        record_metric(fields)
        return
    request = request_following.current()
    if request is not None and request.measured_by_http:
        return
    tags = fields.get("tags")
    # guard-core names the requested path there, of which a scanner makes any number; the route is one of a few.
    tags = {key: tag for key, tag in tags.items() if key != "endpoint"} if isinstance(tags, dict) else {}
    record_metric(metric_type=metric_type, value=fields.get("value"), endpoint=request and request.route, tags=tags)


def _complain(kind: str, error: Exception) -> None:
    log_once(
        _logger,
        logging.ERROR,
        f"a security {kind} of fastapi-guard could not be taken as it is: {error!r}",
        cause=f"untakeable {kind} of fastapi-guard",
    )
