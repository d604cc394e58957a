#!/bin/sh
# An OTLP receiver, a local Guard backend, and one application that sends to both.
port="${RECEIVER_PORT:-4318}"
python receiver.py &
receiver=$!
trap 'kill $receiver $application 2>/dev/null' EXIT INT TERM
export OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:$port" OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
export OTEL_TRACES_EXPORTER=otlp,guard OTEL_LOGS_EXPORTER=otlp,guard OTEL_METRICS_EXPORTER=otlp,guard
opentelemetry-guard run --local -- uvicorn --app-dir ../zero-code app:app &
application=$!
wait $application
