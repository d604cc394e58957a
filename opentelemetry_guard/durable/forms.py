"""The three signals of OTLP: their requests and answers as protobuf, and what a row of each is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from ..delivery.wire import Wire
from ..queue.base import Kind
from ..settings.durable import PREFIX
from ..settings.otlp import Signal


@dataclass(frozen=True, slots=True)
class Form:
    """A signal on the wire.

    Attributes:
        signal: its name in variables and paths.
        request: the message of a request.
        response: the message of an answer.
        rejected: the field of a partial success that counts rows.
        path: the repeated fields that lead from a request to its rows; a metric's points are one level deeper.
    """

    signal: Signal
    request: type[Message]
    response: type[Message]
    rejected: str
    path: tuple[str, ...]


FORMS: Mapping[Kind, Form] = {
    "spans": Form(
        "traces",
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
        "rejected_spans",
        ("resource_spans", "scope_spans", "spans"),
    ),
    "logs": Form(
        "logs",
        ExportLogsServiceRequest,
        ExportLogsServiceResponse,
        "rejected_log_records",
        ("resource_logs", "scope_logs", "log_records"),
    ),
    "points": Form(
        "metrics",
        ExportMetricsServiceRequest,
        ExportMetricsServiceResponse,
        "rejected_data_points",
        ("resource_metrics", "scope_metrics", "metrics", "data", "data_points"),
    ),
}

OTLP = Wire("OTLP", tuple(FORMS), tuple(FORMS), f"{PREFIX}QUEUE_URL")
"""Requests of OTLP/HTTP in protobuf."""


def parsed(form: Form, body: bytes) -> Message:
    """Return the request that a body is.

    Raises:
        ValueError: it is none.
    """
    message = form.request()
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise ValueError(f"it is no OTLP request of {form.signal}: {error}") from error
    return message


def children(message: Any, name: str) -> Any:
    """Return the repeated field, or what `data`, the one of several fields that a metric has, makes of it."""
    if name != "data":
        return getattr(message, name)
    found = message.WhichOneof("data")
    return [getattr(message, found)] if found else []


def count(message: Any, path: tuple[str, ...]) -> int:
    """Return the rows in a message, along the fields that lead to them."""
    found = children(message, path[0])
    return len(found) if len(path) == 1 else sum(count(child, path[1:]) for child in found)


def cut(message: Any, path: tuple[str, ...], rows: int) -> tuple[Any, Any]:
    """Return the first `rows` rows of a message and the others, each with all that stands around them."""
    first, others = type(message)(), type(message)()
    first.CopyFrom(message)
    others.CopyFrom(message)
    if path[0] == "data":
        name = message.WhichOneof("data")
        one, other = cut(getattr(message, name), path[1:], rows)
        getattr(first, name).CopyFrom(one)
        getattr(others, name).CopyFrom(other)
        return first, others
    first.ClearField(path[0])
    others.ClearField(path[0])
    for child in getattr(message, path[0]):
        size = 1 if len(path) == 1 else count(child, path[1:])
        if size <= rows:
            getattr(first, path[0]).append(child)
        elif rows <= 0:
            getattr(others, path[0]).append(child)
        else:
            one, other = cut(child, path[1:], rows)
            getattr(first, path[0]).append(one)
            getattr(others, path[0]).append(other)
        rows = max(0, rows - size)
    return first, others


def metrics_of(message: Any) -> Iterator[tuple[bytes, Any]]:
    """Yield the metrics of a request, with the bytes of the resource and scope that they belong to."""
    for resource in message.resource_metrics:
        of_resource = resource.resource.SerializeToString(deterministic=True)
        for scope in resource.scope_metrics:
            place = of_resource + scope.scope.SerializeToString(deterministic=True)
            for metric in scope.metrics:
                yield place, metric
