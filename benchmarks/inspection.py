"""What looking into a request costs, how it grows with hostile input, and what the signatures find and leave.

The rates are of the lists in `tests/support`: payloads by category, and two kinds of harmless requests.
"""

from __future__ import annotations

import time
from functools import partial

from opentelemetry_guard.decision.inspection import Inspector
from opentelemetry_guard.settings.signature_rules import CATEGORIES, HEADERS

from . import browser
from .timing import compare, show

SENT = [*browser.HEADERS, (b"referer", b"https://shop.example/items?page=2")]
BENIGN = 100_000
REQUESTS = {
    "a path": (b"/items/7", b""),
    "and a query": (b"/items/7", b"page=2&sort=name"),
    "a search of two words": (b"/search", b"q=red+shoes&page=2"),
    "a query that is percent-encoded": (b"/search", b"q=O%27Brien%20and%20sons&next=%2Faccount%3Fa%3Db"),
}
HOSTILE = {"quotes": b"'", "encoded quotes": b"%27", "a keyword": b"union select ", "overlong UTF-8": b"\xc0\xbc"}


def main() -> None:
    """Print costs and rates."""
    inspector = Inspector(CATEGORIES, HEADERS)
    show(
        "looking into a benign request",
        compare({name: lambda sent=sent: inspector.inspect(*sent, SENT) for name, sent in REQUESTS.items()}),  # type: ignore[misc]
    )
    for name, unit in HOSTILE.items():
        texts = {size: (unit * size)[:size] for size in (4096, 16_384, 65_536)}
        show(
            f"a hostile query of {name}, by its bytes",
            compare({str(size): lambda text=text: inspector.inspect(b"/", text, ()) for size, text in texts.items()}),  # type: ignore[misc]
        )
    _judging()
    _rates(inspector)


def _judging() -> None:
    """Print what it costs to judge an answer, by the bytes that a client has written into one place of its request."""
    from traffic.asking import Sent
    from traffic.scene import Fleet, Followed

    failed = Sent(0.0, "203.0.113.7", "/login", 401, method="POST")
    places = {
        "the path": lambda text: failed._replace(path=f"/{text}"),
        "the query": lambda text: failed._replace(query=text),
        "the user agent": lambda text: failed._replace(agent=text),
        "the credentials": lambda text: failed._replace(credentials=text),
    }
    for place, sent in places.items():
        for name, unit in (*((name, str(unit, "latin-1")) for name, unit in HOSTILE.items()), ("words", "/log-in ")):
            fleet = Fleet(1)
            requests = {size: Followed(sent((unit * size)[:size])) for size in (8_192, 16_384, 32_768, 65_536)}
            show(
                f"judging an answer, with {name} in {place}, by its bytes",
                compare(
                    {str(size): partial(fleet.answer, 0, one, 0.0) for size, one in requests.items()},
                    clock=time.thread_time,
                ),
            )


def _rates(inspector: Inspector) -> None:
    from urllib.parse import quote

    from support import benign_forms, benign_requests
    from support.attack_payloads import PAYLOADS

    for kind, payloads in PAYLOADS.items():
        sent = [quote(text, safe="%" if "%" in text and "%{" not in text else "") for text in payloads]
        found = sum(inspector.inspect(b"/", b"q=" + text.encode(), ()) is not None for text in sent)
        print(f"  {kind}: {found} of {len(payloads)} payloads are found")
    for name, source in (("pages", benign_requests.benign_requests), ("tools", benign_forms.benign_requests)):
        accused = sum(inspector.inspect(*sent, ()) is not None for sent in source(20, BENIGN))
        print(f"  {name}: {accused} of {BENIGN:,} harmless requests are accused")


if __name__ == "__main__":
    main()
