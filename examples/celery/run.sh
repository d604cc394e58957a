#!/bin/sh
# One task, and a worker that carries it out; the children of the worker deliver what their tasks emit.
python -c "import tasks; tasks.scan_upload.delay('holiday.exe.png')"
exec opentelemetry-guard run --local -- celery --app tasks worker --concurrency 1 --loglevel warning
