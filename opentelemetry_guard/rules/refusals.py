"""Rules documents that are refused: why, and the metric that counts them, for whoever watches the service.

A document that is forged, or an older one that somebody sends again, changes nothing. But somebody stands on the way to
the backend then, or has its address, and that should be seen.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import Literal

from opentelemetry.metrics import Counter, get_meter

from .. import semconv
from ..decision.signing import Proof
from ..instruments import OWN
from ..version import __version__

_ANSWERED = 8
"""Proofs that are remembered."""

Why = Literal["forged", "older", "unsigned", "malformed"]
"""``forged``: its signature is not the secret's, or for another question; ``older``: the same, and it fits a question
whose answer was taken over before; ``unsigned``: it has none and needs one; ``malformed``: it is no rules document."""


class RefusedDocument(ValueError):
    """A document changes nothing. The text says what speaks against it, and `why` in a word."""

    def __init__(self, why: Why, text: str) -> None:
        """Refuse one."""
        super().__init__(text)
        self.why: Why = why


class Refusals:
    """What a client has refused, and what it needs to know of before to tell an older document.

    Attributes:
        total: documents that were refused, for whatever reason.
        answered: contexts of the last proofs that were believed.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.total = 0
        self.answered: deque[str] = deque(maxlen=_ANSWERED)

    def believed(self, proof: Proof | None) -> None:
        """Note that a document was taken over for this proof."""
        if proof is not None and proof.context not in self.answered:
            self.answered.append(proof.context)

    def counted(self, refusal: RefusedDocument, destination: str) -> RefusedDocument:
        """Count a document, and return the refusal with the number; `destination` is the hash of where it is from."""
        self.total += 1
        _counter().add(1, {semconv.DELIVERY_DESTINATION: destination, semconv.RULES_REFUSAL_REASON: refusal.why})
        return RefusedDocument(refusal.why, f"{refusal} ({self.total} refused so far)")


@cache
def _counter() -> Counter:
    refused = OWN[semconv.RULES_REFUSED]
    return get_meter(semconv.SCOPE_NAME, __version__).create_counter(refused.name, refused.unit, refused.description)
