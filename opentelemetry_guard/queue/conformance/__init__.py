"""The conformance suite: what every delivery queue has to do, as tests that anybody's store can run.

Subclass it in a test module of your own and say how a queue is made; pytest
collects the tests, and any other runner can call them::

    from opentelemetry_guard.queue.conformance import QueueConformance

    class TestMyQueue(QueueConformance):
        def make_queue(self, options):
            return MyQueue(new_empty_store(), options)

        def make_sibling(self, queue, options):
            return MyQueue(queue.store, options)

Time is passed in: no test waits for a lease to run out. This module imports
no test framework.
"""

from __future__ import annotations

from .handing_out import HandingOut
from .owners import Owners
from .places import Places
from .steps import make_batch

__all__ = ["QueueConformance", "make_batch"]


class QueueConformance(HandingOut, Places, Owners):
    """What a delivery queue does. Override `make_queue`, and `make_sibling` where several owners share a store.

    .. versionadded:: 1.0
    """
