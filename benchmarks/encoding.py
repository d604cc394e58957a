"""Why orjson and gzip level 1: the encoding of a batch of 512 events, on the background thread."""

from __future__ import annotations

import gzip
import json

import orjson

from opentelemetry_guard import SecurityEvent
from opentelemetry_guard.events.codec import complete, to_row

from .timing import compare, show

ROWS = 512


def main() -> None:
    """Print the cost of JSON and of gzip, and the sizes that the levels leave."""
    rows = [
        complete(
            to_row(
                SecurityEvent(
                    event_type="penetration_attempt",
                    ip_address=f"203.0.113.{number % 250}",
                    user_agent="Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
                    action_taken="blocked",
                    reason="SQL injection in the query",
                    endpoint="/items/{number}",
                    method="GET",
                    status_code=403,
                    metadata={"number": number},
                )
            )[0],
            trace_id=number * 2**90 + 1,
            span_id=number * 2**50 + 1,
        )
        for number in range(ROWS)
    ]
    body = orjson.dumps(rows)
    show(
        f"a batch of {ROWS} events, {len(body)} bytes",
        compare(
            {
                "orjson.dumps (holds the interpreter's lock)": lambda: orjson.dumps(rows),
                "json.dumps (holds the interpreter's lock)": lambda: json.dumps(rows, separators=(",", ":")),
                **{f"gzip level {level}": lambda level=level: gzip.compress(body, level) for level in (1, 3, 6)},
            },
            rounds=15,
        ),
        1e-3,
        "ms",
    )
    for level in (1, 3, 6):
        print(f"  gzip level {level} leaves {len(gzip.compress(body, level))} bytes")


if __name__ == "__main__":
    main()
