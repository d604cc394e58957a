"""A Celery application whose tasks report what they find; its broker is a directory, to need no server."""

import os
import tempfile
from pathlib import Path

from celery import Celery

from opentelemetry_guard import emit_event

broker = Path(os.environ.get("BROKER_DIRECTORY") or Path(tempfile.gettempdir(), "guard-example-broker"))
for name in ("queue", "control"):
    (broker / name).mkdir(parents=True, exist_ok=True)

app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": str(broker / "queue"),
    "data_folder_out": str(broker / "queue"),
    "control_folder": str(broker / "control"),
}


@app.task
def scan_upload(name: str) -> None:
    """Look at an upload; a program that calls itself a picture is reported."""
    if name.endswith(".exe.png"):
        emit_event(event_type="content_filtered", action_taken="logged", reason="a program in disguise", endpoint=name)
