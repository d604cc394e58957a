"""A process that forks before its agent has started, and again afterwards, as a server that preloads does."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys

from opentelemetry_guard import AgentConfig, SecurityEvent, guard_agent

agent = guard_agent(AgentConfig(api_key="your-api-key", project_id="your-project-id"))


def send(reason: str) -> None:
    agent.sync.send_event(SecurityEvent(event_type="custom_rule_triggered", reason=reason))


def in_a_child(reason: str, start: bool) -> None:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        if start:
            agent.sync.start()
        send(reason)
        agent.sync.stop()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


send("held by the parent")
in_a_child("child of an agent that has not started", start=True)
agent.sync.start()
send("parent before the fork")
in_a_child("child of an agent that runs", start=False)
process = multiprocessing.get_context("fork").Process(target=send, args=("child of multiprocessing",))
process.start()
process.join()
with multiprocessing.get_context("fork").Pool(1) as pool:  # whose workers are ended by SIGTERM
    pool.map(send, ["worker of a pool"])
send("parent after the fork")
agent.sync.stop()
print(json.dumps({"running": agent.get_stats()["running"]}))
