"""What is found of the attacks in `tests/traffic`, and who of the innocent is accused: ``make detection``.

Every actor comes alone among 150 ordinary people, on a simulated clock. What is printed for each: in how many of the
runs it was told, the median of the seconds until then, how many events were made of it, and by which detectors.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

from traffic import against_logins, benign, floods, fourth, payloads, scans, second, third_attacks, third_benign
from traffic.asking import Actor
from traffic.scene import CommonMemory, Fleet, Outcome, play

ATTACKS = (*against_logins.ACTORS, *scans.ACTORS, *payloads.ACTORS, *floods.ACTORS)
SETS = {
    "attacks": ATTACKS,
    "benign": benign.ACTORS,
    "attacks of the second set": second.ATTACKS,
    "benign of the second set": second.BENIGN,
    "attacks of the third set": third_attacks.ATTACKS,
    "benign of the third set": third_benign.BENIGN,
    "attacks of the fourth set": fourth.ATTACKS,
    "benign of the fourth set": fourth.BENIGN,
}
FLEETS = {"1 worker": (1, False), "4 workers that share": (4, True), "4 workers, each by itself": (4, False)}


def row(name: str, outcomes: Sequence[Outcome]) -> str:
    """Return an actor's line."""
    found = [outcome for outcome in outcomes if outcome.found]
    if not found:
        return f"  {name:<36} {0:>2}/{len(outcomes)}"
    seconds = statistics.median(outcome.seconds or 0.0 for outcome in found)
    events = statistics.median(len(outcome.found) for outcome in found)
    patterns = ", ".join(dict.fromkeys(pattern for outcome in found for pattern in outcome.patterns))
    return f"  {name:<36} {len(found):>2}/{len(outcomes)} {seconds:>7.0f} s {events:>6.0f}  {patterns}"


def table(title: str, actors: Sequence[type[Actor]], fleet: tuple[int, bool], seeds: Sequence[int]) -> str:
    """Print a table of actors; return its last line."""
    print(f"{title}\n  {'':<36} told   until  events")
    told = [0] * len(seeds)
    innocent: set[tuple[str, str]] = set()
    for actor in actors:
        outcomes = [play(actor(), seed, Fleet(fleet[0], CommonMemory() if fleet[1] else None)) for seed in seeds]
        for position, outcome in enumerate(outcomes):
            told[position] += bool(outcome.found)
            innocent |= {(actor.name(), one.pattern) for one in outcome.innocent}
        print(row(actor.name(), outcomes), flush=True)
    for name, pattern in sorted(innocent):
        print(f"  of ordinary people beside {name}: {pattern}")
    return f"{title}: {statistics.mean(told):.1f} of {len(actors)} told (from {min(told)} to {max(told)} by seed)"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="actors whose name has this in it")
    parser.add_argument("--fleet", default="", choices=("", *FLEETS))
    arguments = parser.parse_args()
    began = time.process_time()
    sums = []
    for name, fleet in FLEETS.items():
        if arguments.fleet in ("", name):
            for title, actors in SETS.items():
                chosen = [actor for actor in actors if arguments.only in actor.name()]
                if chosen:
                    sums.append(table(f"{title}, {name}", chosen, fleet, range(arguments.seeds)))
                    print()
    print("\n".join(sums))
    print(f"{time.process_time() - began:.0f} s of CPU time")


if __name__ == "__main__":
    main()
