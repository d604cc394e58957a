"""A few cheap ratios beside the last landed ones: ``make bench-gate``, half a minute; it fails beyond twice of them.

Each is one of our figures as a multiple of one of OpenTelemetry's or FastAPI's in the same run, so the machine hardly
matters. ``python -m benchmarks.gate --write`` notes what is measured as landed; do so where a change is meant to cost
or to spare something.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from .peer import backend
from .peer.requests import less
from .peer.running import in_turn, values

LANDED = Path(__file__).with_name("gate.json")
ROUNDS = 9
REQUESTS = 400
"""Requests of a round: as few as show what has doubled."""
MARGIN = 2.0
SLACK = 0.6
"""What is let pass beside the margin: a figure near nothing is mostly noise, of this size on a busy machine."""


def measured() -> dict[str, float]:
    """Return the ratios."""
    with backend.running() as accepting:
        url = {"url": accepting.url}
        events = in_turn(
            {
                "bare": ("events:bare", {}),
                "caller": ("events:calls", {"pipeline": "ours", **url}),
                "accepted": ("events:delivered", {"pipeline": "ours", **url}),
            },
            ROUNDS,
            backend=accepting,
            starts=1,
        )
        kinds = ("bare", "otel", "ours")
        requests = in_turn(
            {
                **{kind: ("requests:served", {"kind": kind, "requests": REQUESTS, **url}) for kind in kinds},
                "metrics": ("request_metrics:ours", {"requests": REQUESTS, **url}),
            },
            ROUNDS,
            backend=accepting,
            warm=2,
            starts=1,
        )
    event, request = values(events, "cpu"), values(requests, "cpu")
    told, untold = (values(requests, name)["metrics"] for name in ("told", "untold"))
    called = values({"caller": events["caller"]}, "call")["caller"]
    pairs = {
        "an event's caller, to the SDK's bare log record": (called, event["bare"]),
        "an event until it is accepted, to the SDK's bare log record": (event["accepted"], event["bare"]),
        "what a benign request pays for us, to FastAPI alone": (
            less(request["ours"], request["otel"]),
            request["bare"],
        ),
        "what its metrics pay, to FastAPI alone": (less(told, untold), request["bare"]),
    }
    return {
        title: statistics.median(one / other for one, other in zip(*pair, strict=True)) for title, pair in pairs.items()
    }


def main() -> None:
    """Print the ratios beside the landed ones; exit with 1 where one has grown beyond the margin."""
    parser = argparse.ArgumentParser(prog="benchmarks.gate", description=__doc__)
    parser.add_argument("--write", action="store_true", help="note what is measured as landed")
    ratios = measured()
    if parser.parse_args().write:
        LANDED.write_text(json.dumps({title: round(ratio, 2) for title, ratio in ratios.items()}, indent=2) + "\n")
    landed = json.loads(LANDED.read_text())
    failed = False
    for title, ratio in ratios.items():
        bound = MARGIN * max(landed.get(title, ratio), 0.0) + SLACK
        failed |= ratio > bound
        verdict = "TOO MUCH" if ratio > bound else "ok"
        print(f"  {title:<64}{ratio:>8.2f} x, landed {landed.get(title, ratio):>6.2f}, bound {bound:>6.2f}  {verdict}")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
