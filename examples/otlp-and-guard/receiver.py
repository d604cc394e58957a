"""A small OTLP/HTTP receiver that prints the security events among the log records that it is sent."""

import gzip
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest


class Receiver(BaseHTTPRequestHandler):
    """Answers every signal with success."""

    def do_POST(self) -> None:
        """Take one request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/v1/logs":
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
                for scope in resource.scope_logs:
                    for record in scope.log_records:
                        if record.event_name == "guard.security_event":
                            print("OTLP:", *(attribute.key for attribute in record.attributes), flush=True)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print no line for each request."""


ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("RECEIVER_PORT", "4318"))), Receiver).serve_forever()
