"""An unmodified application, set up by environment variables alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from support.application import ZERO_CODE, running_shop
from support.backend import running_backend


class OtlpReceiver:
    """An OpenTelemetry collector's HTTP port, as far as log records go."""

    def __init__(self) -> None:
        self.url = ""
        self.event_names: list[str] = []
        self._changed = threading.Condition()

    def receive(self, body: bytes) -> None:
        """Keep the event names of an export request."""
        request = ExportLogsServiceRequest.FromString(body)
        with self._changed:
            for resource in request.resource_logs:
                for scope in resource.scope_logs:
                    self.event_names += [record.event_name for record in scope.log_records]
            self._changed.notify_all()

    def wait_for(self, event_name: str) -> None:
        """Return when an event of that name has arrived."""
        with self._changed:
            assert self._changed.wait_for(lambda: event_name in self.event_names, 20), self.event_names


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    receiver = OtlpReceiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/v1/logs"):
                receiver.receive(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_events_arrive_with_their_trace_and_requests_are_counted_by_route() -> None:
    with running_backend() as backend, running_shop({**ZERO_CODE, **backend.environment}) as shop:
        assert shop.fail_to_log_in("eve") == 401
        (event,) = backend.wait_for_events(1)
        shop.stop()
        counts = [row for row in backend.metrics() if row["metric_type"] == "request_count"]

    assert event["event_type"] == "authentication_failed"
    assert event["endpoint"] == "/login"
    assert len(event["metadata"]["trace_id"]) == 32
    assert [(row["endpoint"], row["value"], row["tags"]["status_code"]) for row in counts] == [("/login", 1.0, "401")]


def test_the_event_of_the_last_request_before_sigterm_is_delivered() -> None:
    patient = {**ZERO_CODE, "OTEL_BLRP_SCHEDULE_DELAY": "3600000"}
    with running_backend() as backend, running_shop({**patient, **backend.environment}) as shop:
        shop.fail_to_log_in("eve")
        assert backend.events() == []
        assert shop.stop() in (0, -15)
        (event,) = backend.events()
    assert event["metadata"]["user"] == "eve"


def test_an_event_of_a_trace_that_is_not_sampled_arrives_through_the_log_signal() -> None:
    unsampled = {**ZERO_CODE, "OTEL_TRACES_SAMPLER": "always_off"}
    with running_backend() as backend, running_shop({**unsampled, **backend.environment}) as shop:
        shop.fail_to_log_in("eve")
        (event,) = backend.wait_for_events(1)
    assert event["event_type"] == "authentication_failed"


def test_with_another_exporter_beside_ours_both_receivers_have_the_event() -> None:
    with running_backend() as backend, otlp_receiver() as otlp:
        both = {
            "OTEL_TRACES_EXPORTER": "otlp,guard",
            "OTEL_LOGS_EXPORTER": "otlp,guard",
            "OTEL_METRICS_EXPORTER": "otlp,guard",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
        }
        with running_shop({**ZERO_CODE, **both, **backend.environment}) as shop:
            shop.fail_to_log_in("eve")
            (event,) = backend.wait_for_events(1)
            otlp.wait_for("guard.security_event")
    assert event["event_type"] == "authentication_failed"


def test_two_services_with_different_projects_and_one_home_send_only_their_own_events() -> None:
    with running_backend(project="one") as one, running_backend(project="two") as two:
        with (
            running_shop({**ZERO_CODE, **one.environment}) as first,
            running_shop({**ZERO_CODE, **two.environment}) as second,
        ):
            first.fail_to_log_in("of one")
            second.fail_to_log_in("of two")
            one.wait_for_events(1)
            two.wait_for_events(1)
            first.stop()
            second.stop()
        assert [event["metadata"]["user"] for event in one.events()] == ["of one"]
        assert [event["metadata"]["user"] for event in two.events()] == ["of two"]


def test_what_a_terminated_application_could_not_deliver_is_sent_by_its_next_start() -> None:
    with running_backend() as backend:
        with running_shop({**ZERO_CODE, **backend.environment}) as shop:
            backend.stop()
            shop.fail_to_log_in("before")
            shop.stop()
        backend.start()
        with running_shop({**ZERO_CODE, **backend.environment}):
            (event,) = backend.wait_for_events(1)
    assert event["metadata"]["user"] == "before"
