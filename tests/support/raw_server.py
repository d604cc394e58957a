"""A server that speaks bytes, for answers that no HTTP library would give, and for TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n" + b'{"success":true}'


@dataclass
class RawServer:
    """The address of a server, and what it has seen: connections by number, and requests with their headers."""

    port: int
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    peers: list[object] = field(default_factory=list)

    def drip(self, connection: socket.socket, data: bytes, pause: float = 0.02) -> None:
        """Send `data` byte by byte."""
        for byte in data:
            connection.sendall(bytes([byte]))
            if self.closing.wait(pause):
                return


Behaviour = Callable[[RawServer, socket.socket], bool]
"""Answers one request; says whether the connection stays open."""


def answer(data: bytes = OK, keep: bool = True) -> Behaviour:
    """Answer every request with `data`."""

    def behave(server: RawServer, connection: socket.socket) -> bool:
        connection.sendall(data)
        return keep

    return behave


@contextmanager
def raw_server(
    behaviour: Behaviour, context: ssl.SSLContext | None = None, *, port: int = 0, greets: bool = False
) -> Iterator[RawServer]:
    """Listen on a loopback port, 0 is a free one; one thread a connection. One that `greets` waits for no request."""
    listener = socket.create_server(("127.0.0.1", port))
    server = RawServer(listener.getsockname()[1])
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                stream = context.wrap_socket(connection, server_side=True) if context else connection
                with stream:
                    if isinstance(stream, ssl.SSLSocket):
                        server.peers.append(stream.getpeercert())
                    if greets:
                        behaviour(server, stream)
                        return
                    while (request := _read(stream)) is not None:
                        server.requests.append(request)
                        if not behaviour(server, stream):
                            return
            except OSError:
                return  # the client has given up, as some tests mean it to

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            server.connections += 1
            threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
            threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield server
    finally:
        server.closing.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()


def _read(connection: socket.socket) -> bytes | None:
    """Read one request; None at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def make_certificate(directory: Path, name: str = "127.0.0.1") -> tuple[Path, Path]:
    """Write a self-signed certificate for the loopback address and its key; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = directory / f"{name}.pem", directory / f"{name}.key"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_path, key_path


def server_context(certificate: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """Return a server's TLS settings; with `client_ca` it asks for a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
