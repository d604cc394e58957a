"""A process that listens for rules: a line for each change, and one for each line it reads.

The former has the version, the time and the bans, the latter the version in force and how many documents were refused.
"""

from __future__ import annotations

import sys
import time

from opentelemetry_guard import rules
from opentelemetry_guard.models import DynamicRules


def _told(old: DynamicRules | None, new: DynamicRules) -> None:
    sys.stdout.write(f"{new.version} {time.time()} {','.join(new.ip_blacklist)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # Polls would come too late for any test: what is told soon after the first answer comes on the stream.
    rules.subscribe(_told, interval=86_400)
    for _ in sys.stdin:
        current = rules.current()
        refused = 0 if rules._client is None else rules._client.refusals.total
        sys.stdout.write(f"{0 if current is None else current.version} {refused}\n")
        sys.stdout.flush()
