"""A script whose children emit and end in the ordinary way: ``children.py WAY METHOD import|child``.

The way is ``process``, ``executor`` or ``pool``, whose children are ended by SIGTERM.

The last word says where the pipelines are set up: where the module is imported, or in the child alone.
"""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from support.pipelines import emit, set_up

from opentelemetry_guard.process import signals as termination

CHILDREN = 3

if sys.argv[3] == "import":
    set_up()
if sys.argv[1] == "pool":
    termination.install()


def work(number: int) -> None:
    """Do what a child does."""
    if sys.argv[3] == "child":
        set_up()
    emit(f"child{number}")


def main(way: str, method: str) -> None:
    """Have the work done by children, and wait for them."""
    context = multiprocessing.get_context(method)
    if way == "pool":
        with context.Pool(2) as pool:
            pool.map(work, range(CHILDREN))
        return
    if way == "executor":
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            list(executor.map(work, range(CHILDREN)))
        return
    children = [context.Process(target=work, args=(number,)) for number in range(CHILDREN)]  # type: ignore[attr-defined]
    for child in children:
        child.start()
    for child in children:
        child.join()


if __name__ == "__main__":
    main(*sys.argv[1:3])
