"""A machine that disappears with undelivered events, and another that has the same store of values (a directory)."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from opentelemetry_guard import AgentConfig, SecurityEvent, guard_agent
from opentelemetry_guard.agent import copies

copies.LIFE_SECONDS = 1.0


class Directory:
    """A RedisHandlerProtocol that tells no address of a Redis."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def initialize(self) -> None:
        self.path.mkdir(exist_ok=True)

    async def get_key(self, namespace: str, key: str) -> Any:
        file = self.path / f"{namespace}:{key}"
        try:
            value, until = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        return value if until is None or time.time() < until else None

    async def set_key(self, namespace: str, key: str, value: Any, ttl: int | None = None) -> bool:
        draft = self.path / f".{key}"
        draft.write_text(json.dumps([value, ttl and time.time() + ttl]))
        draft.rename(self.path / f"{namespace}:{key}")
        return True

    async def delete(self, namespace: str, key: str) -> int:
        file = self.path / f"{namespace}:{key}"
        existed = file.exists()
        file.unlink(missing_ok=True)
        return int(existed)

    async def keys(self, pattern: str) -> list[str]:
        return [file.name for file in self.path.iterdir() if fnmatch(file.name, pattern)]

    def get_connection(self) -> Any:
        raise NotImplementedError


def copied(store: Path) -> list[Path]:
    return list(store.glob(f"{copies.EVENTS}:*"))


def wait_until(holds: Any) -> None:
    pause, end = threading.Event(), time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        pause.wait(0.02)


store = Path(sys.argv[1])
agent = guard_agent(AgentConfig(api_key="your-api-key", project_id="your-project-id", flush_interval=0.05))
agent.initialize_redis(Directory(store))
agent.start()
if sys.argv[2] == "disappear":
    for number in range(3):
        agent.send_event(SecurityEvent(event_type="custom_rule_triggered", reason=f"left behind {number}"))
    wait_until(lambda: len(copied(store)) == 3)
    assert not any("s3cret" in file.read_text() for file in store.iterdir())
    print(json.dumps({"copies": 3}), flush=True)
    os._exit(0)
wait_until(lambda: agent.get_status().events_sent == 3)
wait_until(lambda: not copied(store))
agent.stop()
print(json.dumps({"left": len(copied(store))}))
