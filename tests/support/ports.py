"""Ports for servers that are told theirs before they listen, or come back on it."""

from __future__ import annotations

import os
import socket
from contextlib import closing, suppress
from itertools import count

FIRST, COUNT = 10_240, 10_000
"""Below those that systems give to connections and to whoever asks for any: nobody takes one of these meanwhile. A
connection that is tried again and again could even be given the port that it wants to reach, and reach itself."""

_next = count(os.getpid() * 7919)  # processes that run tests side by side begin elsewhere


def free_port() -> int:
    """Return a port that is free, and that this process has not been given lately."""
    while True:
        port = FIRST + next(_next) % COUNT
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
