"""What a transport of a test has got, in a file that the test reads."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

RECEIVED = Path(os.environ["RECEIVED"])


def note(kind: str, models: Sequence[BaseModel]) -> None:
    with RECEIVED.open("a") as file:
        for model in models:
            file.write(json.dumps({"kind": kind, "type": type(model).__name__, **model.model_dump(mode="json")}) + "\n")
