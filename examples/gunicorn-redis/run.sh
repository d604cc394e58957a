#!/bin/sh
# Two workers whose events wait in one Redis: what a worker leaves behind, another one delivers.
export OTEL_EXPORTER_GUARD_QUEUE_URL="${REDIS_URL:-redis://127.0.0.1:6379/0}"
exec opentelemetry-guard run --local -- gunicorn --chdir ../zero-code app:app --workers 2 --worker-class uvicorn.workers.UvicornWorker
