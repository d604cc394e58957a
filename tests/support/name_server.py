"""A name server on loopback that knows what it is told."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.rrset


class NameServer:
    """Answers by UDP; names of `names` are written with a dot at their end.

    Attributes:
        port: where it listens.
        asked: what was asked for, in order.
        silent: names for which it never answers.
    """

    def __init__(self, names: Mapping[str, Sequence[str]], addresses: Mapping[str, Sequence[str]]) -> None:
        """Begin to listen; `names` are those of addresses, `addresses` those of names."""
        self.asked: list[str] = []
        self.silent: set[str] = set()
        self._records: dict[tuple[str, str], Sequence[str]] = {}
        for address, found in names.items():
            self._records[dns.reversename.from_address(address).to_text(), "PTR"] = found
        for name, found in addresses.items():
            self._records[name, "A"] = [one for one in found if ":" not in one]
            self._records[name, "AAAA"] = [one for one in found if ":" in one]
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            wire, peer = self._socket.recvfrom(4096)
            if not wire:
                return
            query = dns.message.from_wire(wire)
            (question,) = query.question
            name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
            self.asked.append(name)
            if name in self.silent:
                continue
            answer = dns.message.make_response(query)
            found = self._records.get((name, kind), ())
            if found:
                answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *found))
            elif not any(known == name for known, _ in self._records):
                answer.set_rcode(dns.rcode.NXDOMAIN)
            self._socket.sendto(answer.to_wire(), peer)

    def close(self) -> None:
        """End."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(20)
        self._socket.close()


@contextlib.contextmanager
def name_server(names: Mapping[str, Sequence[str]], addresses: Mapping[str, Sequence[str]]) -> Iterator[NameServer]:
    """Run a name server."""
    server = NameServer(names, addresses)
    try:
        yield server
    finally:
        server.close()
