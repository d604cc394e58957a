"""The agent handler that fastapi-guard gets from us: what guard-core sends to its agent goes into OpenTelemetry."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context

from ...emit import Emitter, emit_event, record_metric
from ...events import capture, codec, incident
from ...events.enrichment import BAN_LIST
from ...events.tally import TALLY
from ...models import SecurityMetric
from ..http import following as request_following
from ..http.following import FollowedRequest
from ..http.reports import NoiseFilter, Report, is_about_request, is_noise
from ..patching import unexpected
from . import rules as guard_rules

_logger = logging.getLogger(__name__)

LIBRARY = "guard_core"
"""The name under which `opentelemetry_guard.events.capture` knows that guard-core's events arrive here."""

_REQUEST_METRICS = frozenset({"request_count", "response_time", "error_rate"})
_METRIC_FIELDS = tuple(SecurityMetric.model_fields)
_TAKEN = "opentelemetry_guard.guard_metrics"
"""Key of a request's scope: which of `_REQUEST_METRICS` it has had."""


class GuardAgentHandler:
    """guard-core's AgentHandlerProtocol on top of an `Emitter`.

    Nothing here raises, waits or buffers beyond the answer to the request.
    While it is not active it takes everything and keeps nothing.
    """

    def __init__(self) -> None:
        self.active = False
        self._noise = NoiseFilter()
        self._emit_event: Callable[[Report], None] = emit_event
        self._record_metric: Callable[..., None] = record_metric

    def begin(self, emitter: Emitter | None) -> None:
        """Be active, and emit through `emitter`, or into the global providers where it is None."""
        self._emit_event = emit_event if emitter is None else emitter.emit_event
        self._record_metric = record_metric if emitter is None else emitter.record_metric
        if not self.active:
            self._noise = NoiseFilter()
        self.active = True

    def end(self) -> None:
        """Tell what noise was folded, and be active no more."""
        self.tell_noise()
        self.active = False

    def tell_noise(self) -> None:
        """Emit what noise was folded and not told yet; for the end of an application."""
        if self.active:
            for report in self._noise.drain():
                self._emit_aside(report)

    async def send_event(self, event: object) -> None:
        """Take one event: at once where it is no incident of a request, with its request's answer otherwise."""
        if not self.active:
            return
        capture.begin(LIBRARY)
        try:
            self._take(codec.fields_of(event))
        except Exception as error:  # noqa: BLE001  reading a stranger's object may raise anything
            _complain("event", error)
            self._emit_event(event)  # type: ignore[arg-type]  # it says and counts what it can't read

    async def send_metric(self, metric: object) -> None:
        """Take one metric, unless an HTTP instrumentation measures the same of the request."""
        if not self.active:
            return
        try:
            self._take_metric(codec.fields_of(metric, _METRIC_FIELDS))
        except Exception as error:  # noqa: BLE001  reading a stranger's object may raise anything
            _complain("metric", error)

    def _take(self, report: Report) -> None:
        report.setdefault("timestamp", datetime.now(timezone.utc))
        _name_ban_list(report)
        if is_noise(str(report.get("event_type"))):
            admitted = self._noise.admit(report)
            if admitted is not None:
                self._emit_aside(admitted)
            return
        request = request_following.current()
        if not is_about_request(report):
            self._emit_aside(report)
        elif request is None:
            self._emit_event(report)
        else:
            # guard-core tells the path in one of several forms, or an id of its own; the request may know its route.
            self._report(request, {**report, "endpoint": request.route or report.get("endpoint")})

    def _report(self, request: FollowedRequest, report: Report) -> None:
        token = context.attach(_trace_of(request))
        try:
            request.report(report, self._emit_event)
        finally:
            context.detach(token)

    def _emit_aside(self, report: Report) -> None:
        """Emit what is no incident of the request under way, so that nobody takes it for one."""
        _, token = incident.begin()
        try:
            self._emit_event(report)
        finally:
            incident.end(token)

    def _take_metric(self, fields: dict[str, object]) -> None:
        metric_type = fields.get("metric_type")
        if metric_type not in _REQUEST_METRICS:
            self._record_metric(fields)
            return
        request = request_following.current()
        if request is not None and (request.measured_by_http or _had(request, metric_type)):
            return
        tags = fields.get("tags")
        # guard-core names the requested path there, of which a scanner makes any number; the route is one of a few.
        tags = {key: tag for key, tag in tags.items() if key != "endpoint"} if isinstance(tags, dict) else {}
        self._record_metric(
            metric_type=metric_type, value=fields.get("value"), endpoint=request and request.route, tags=tags
        )

    async def start(self) -> None:
        """Do nothing: OpenTelemetry's pipelines run already."""

    async def stop(self) -> None:
        """Tell what noise was folded; OpenTelemetry's providers flush at their own shutdown."""
        self.tell_noise()

    async def flush_buffer(self) -> None:
        """Tell what noise was folded; nothing else is held here."""
        self.tell_noise()

    async def initialize_redis(self, redis_handler: object) -> None:
        """Do nothing: fastapi-guard's Redis is not our queue."""

    async def get_dynamic_rules(self) -> object | None:
        """Return the rules that the backend has handed out, in guard-core's form; None before there are any."""
        return guard_rules.current() if self.active else None

    async def health_check(self) -> bool:
        """Return True: there is nothing here that could be down."""
        return True

    def get_stats(self) -> dict[str, object]:
        """Return this process's counts, which `SecurityMiddleware.agent_stats` shows."""
        counts = TALLY.read()
        return {"emitted": counts.emitted, "dropped": counts.dropped}


class BesideAgent:
    """The application's own agent with ours beside it: both receive, everything else is the application's agent's."""

    def __init__(self, theirs: Any, ours: GuardAgentHandler, *, rules_are_theirs: bool = True) -> None:
        """Join two agents.

        Args:
            theirs: the agent that the application turned on.
            ours: what puts the same into OpenTelemetry.
            rules_are_theirs: whether dynamic rules come from the application's agent alone, and not from ours.
        """
        self._theirs = theirs
        self._ours = ours
        self.rules_are_theirs = rules_are_theirs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._theirs, name)

    async def send_event(self, event: object) -> None:
        """Send an event to both; what the application's agent raises is guard-core's to handle, as without us."""
        await self._ours.send_event(event)
        await self._theirs.send_event(event)

    async def send_metric(self, metric: object) -> None:
        """Send a metric to both."""
        await self._ours.send_metric(metric)
        await self._theirs.send_metric(metric)

    async def start(self) -> None:
        """Start the application's agent."""
        await self._theirs.start()

    async def stop(self) -> None:
        """Stop the application's agent."""
        await self._ours.stop()
        await self._theirs.stop()

    async def flush_buffer(self) -> None:
        """Flush both."""
        await self._ours.flush_buffer()
        await self._theirs.flush_buffer()

    async def initialize_redis(self, redis_handler: object) -> None:
        """Give the application's agent its Redis."""
        await self._theirs.initialize_redis(redis_handler)

    async def get_dynamic_rules(self) -> object | None:
        """Return the rules of the one agent that they come from."""
        if not self.rules_are_theirs:
            return await self._ours.get_dynamic_rules()
        rules: object | None = await self._theirs.get_dynamic_rules()
        return rules

    async def health_check(self) -> bool:
        """Return whether the application's agent is well."""
        return bool(await self._theirs.health_check())

    def get_stats(self) -> Any:
        """Return the counts of the application's agent."""
        return self._theirs.get_stats()


def _name_ban_list(report: Report) -> None:
    """Say of a banned client which list of others has banned it, where rules have the ban from one."""
    if report.get("event_type") != "ip_blocked" or not isinstance(metadata := report.get("metadata") or {}, dict):
        return
    # Bans come first: who is banned is asked for nothing else.
    if name := guard_rules.ban_list_of(str(report.get("ip_address"))):
        report["metadata"] = {**metadata, BAN_LIST: name}


def _trace_of(request: FollowedRequest) -> Context:
    """Return the current trace context, or the client's where nothing in this process has begun a span.

    A guard that is served itself is asked before any instrumentation of the application that it wraps.
    """
    present = context.get_current()
    if trace.get_current_span(present).get_span_context().is_valid:
        return present
    headers = request.scope.get("headers") or ()
    return propagate.extract({str(name, "latin-1"): str(value, "latin-1") for name, value in headers}, present)


def _had(request: FollowedRequest, metric_type: object) -> bool:
    """Whether a request has had a metric of this type, and note that it has: two guards may be in its way."""
    taken = request.scope.setdefault(_TAKEN, set())
    known = metric_type in taken
    taken.add(metric_type)
    return known


def _complain(kind: str, error: Exception) -> None:
    unexpected(_logger, f"a security {kind} of fastapi-guard could not be taken as it is", error)
