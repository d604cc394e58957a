"""Where rules come from, and what makes a document of theirs worthy of belief."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from ..decision.signing import Proof, is_genuine
from ..delivery.outcome import Outcome
from ..delivery.route import Route
from ..delivery.streaming import EventStream
from ..delivery.transport import Transport
from .refusals import RefusedDocument


class Streaming(Protocol):
    """A transport on which a backend can tell of changed rules at once."""

    def stream_rules(self, etag: str | None, nonce: str) -> EventStream | Outcome:
        """Ask to be told; see `HTTPTransport.stream_rules`."""
        ...

    def proof(self, nonce: str | None, number: int, signature: str | None) -> Proof | None:
        """Return what says that a document is genuine; see `HTTPTransport.proof`."""
        ...


@dataclass(frozen=True, slots=True)
class Trust:
    """What is asked of a document.

    Without a `secret` nothing is. With one, a signature has to be right where
    there is one; and there has to be one from the time on at which the backend
    has signed before, or from the beginning with `only_signed`.
    """

    secret: str | None = field(default=None, repr=False)
    only_signed: bool = False

    def check(self, document: bytes, proof: Proof | None, signed_before: bool, answered: Iterable[str] = ()) -> None:
        """Refuse a document that something speaks against.

        Args:
            document: as it came.
            proof: what came with it.
            signed_before: whether the one in force is signed.
            answered: contexts of proofs that were believed before.

        Raises:
            RefusedDocument: it is not to be believed.
        """
        if self.secret is None:
            return
        if proof is not None:
            if is_genuine(self.secret, proof, document):
                return
            if any(is_genuine(self.secret, Proof(context, proof.signature), document) for context in answered):
                raise RefusedDocument("older", "its signature is of an earlier question: somebody sends it again")
            raise RefusedDocument(
                "forged", "its signature does not fit: it is forged, an older one, or of another secret"
            )
        if self.only_signed:
            raise RefusedDocument("unsigned", "it is not signed, and OTEL_EXPORTER_GUARD_SIGNED_RULES_ONLY is set")
        if signed_before:
            raise RefusedDocument(
                "unsigned",
                "it is not signed, and those before were: give the backend its signing secret again, or unset "
                "OTEL_EXPORTER_GUARD_SIGNING_SECRET here",
            )


@dataclass(frozen=True, slots=True)
class Link:
    """Where the rules of `destination` (a hash) come from.

    A transport, the route that paces its calls, what is asked of documents,
    and the transport once more where it may be asked for a stream.
    """

    destination: str
    transport: Transport
    route: Route
    trust: Trust = Trust()
    streaming: Streaming | None = None


LinkSource = Callable[[], Link | None]
"""Returns where rules come from now, None while there is nobody to ask."""
