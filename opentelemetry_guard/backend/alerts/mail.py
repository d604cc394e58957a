"""A mail by a server that the operator names."""

from __future__ import annotations

import io
import logging
import smtplib
import socket
import ssl
from email.message import EmailMessage
from email.utils import format_datetime, localtime

from ...delivery.deadline import DeadlineReader, connect, remaining, set_deadline
from .channels import SmtpChannel
from .notice import Notice

_logger = logging.getLogger(__name__)


class Mail:
    """Sends notices to some addresses."""

    def __init__(self, settings: SmtpChannel) -> None:
        """Send as `settings` say."""
        self._settings = settings

    def send(self, notice: Notice) -> None:
        """Send a notice to all recipients.

        Raises:
            Exception: the server can't be reached in time, is not who it should be, or refuses all of the recipients.
        """
        settings = self._settings
        set_deadline(settings.timeout)
        with self._connected() as server:
            if settings.security == "starttls":
                server.starttls(context=_context(settings))
            if settings.username is not None and settings.password is not None:
                server.login(settings.username, settings.password.get_secret_value())
            refused = server.send_message(self._message(notice))
        if refused:
            # The others have it: a further try would send it to them again.
            _logger.warning("The mail server %s refuses %s.", settings.host, ", ".join(sorted(refused)))

    def _connected(self) -> smtplib.SMTP:
        settings = self._settings
        if settings.security == "tls":
            return _TlsServer(settings.host, settings.port_used, timeout=remaining(), context=_context(settings))
        return _Server(settings.host, settings.port_used, timeout=remaining())

    def _message(self, notice: Notice) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = notice.title
        message["From"] = self._settings.sender
        message["To"] = ", ".join(self._settings.recipients)
        message["Date"] = format_datetime(localtime())
        # The same at each try, so that a mail that came twice shows as one.
        message["Message-ID"] = f"<{notice.id}@{self._settings.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(notice.words)
        return message


def _context(settings: SmtpChannel) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=settings.ca_file)


class _Server(smtplib.SMTP):
    """A connection whose answers end at the deadline of the thread: the library bounds each wait, and not their sum."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return connect(host, port)

    def getreply(self) -> tuple[int, bytes]:
        """Read one answer."""
        if self.file is None and self.sock is not None:
            self.file = io.BufferedReader(DeadlineReader(self.sock))
        return super().getreply()


class _TlsServer(_Server, smtplib.SMTP_SSL):
    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        sock = connect(host, port)
        sock.settimeout(remaining())
        return self.context.wrap_socket(sock, server_hostname=host)
