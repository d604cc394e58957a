"""Ends of child processes, which `atexit` does not tell: they run finalizers of their own, and leave by `os._exit`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType

from wrapt import register_post_import_hook

from . import end as process_end


def follow() -> None:
    """Notice the ends of child processes, as soon as the libraries that make them are imported.

    A child of `multiprocessing` or billiard runs no `atexit` handler (of the
    former, not before Python 3.14), but finalizers. A Celery worker's child
    runs neither, and has a signal for it.
    """
    _hook("multiprocessing.util", _end_with_children)  # billiard has the same finalizers
    _hook("celery.signals", _end_with_celery_children)


@cache
def _hook(name: str, then: Callable[[ModuleType], object]) -> None:
    register_post_import_hook(then, name)


def _end_with_children(util: ModuleType) -> None:
    def end_with_this_process(_: object = None) -> None:
        util.Finalize(None, process_end.end, exitpriority=0)

    # Finalizers that a child has inherited are cleared when it begins; these hooks are called after that.
    util.register_after_fork(process_end.CLOCK, end_with_this_process)
    if _is_child():
        end_with_this_process()


def _is_child() -> bool:
    processes = [sys.modules.get(name) for name in ("multiprocessing.process", "billiard.process")]
    # Public is only the former's `parent_process`.
    return any(getattr(each.current_process(), "_parent_pid", None) is not None for each in processes if each)


def _end_with_celery_children(signals: ModuleType) -> None:
    signals.worker_process_shutdown.connect(_end_celery_child, weak=False, dispatch_uid=__name__)


def _end_celery_child(**_: object) -> None:
    process_end.end()
