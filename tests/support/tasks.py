"""A Celery application over a directory, whose tasks emit; `BROKER` in the environment names the directory."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery
from support.pipelines import emit

ROOT = Path(os.environ["BROKER"])

app = Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": f"{ROOT}/queue",
        "data_folder_out": f"{ROOT}/queue",
        "control_folder": f"{ROOT}/control",
    },
)


@app.task(name="work")
def work(number: int) -> None:
    """Emit, and leave a file as a sign that it is done."""
    emit(f"task{number}")
    (ROOT / "done" / str(number)).touch()


if __name__ == "__main__":
    for each in range(int(os.environ["TASKS"])):
        work.delay(each)
