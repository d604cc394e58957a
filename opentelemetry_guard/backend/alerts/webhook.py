"""A signed POST of JSON to where the operator says, and nowhere else."""

from __future__ import annotations

import ssl
import time

from ...delivery.backoff import parse_retry_after
from ...delivery.deadline import Connections, set_deadline
from ...version import __version__
from .channels import WebhookChannel
from .notice import Notice, NotTaken
from .signature import secret_bytes, signed_headers


class Webhook:
    """Posts notices to one URL."""

    def __init__(self, settings: WebhookChannel) -> None:
        """Post as `settings` say."""
        self._settings = settings

    def send(self, notice: Notice) -> None:
        """Post a notice. Any 2xx means that it is taken; a redirect is not followed, so that nobody else is sent it.

        Raises:
            NotTaken: the receiver answers with another status.
            Exception: it doesn't answer in time.
        """
        settings, body = self._settings, notice.message
        key = secret_bytes(settings.secret.get_secret_value())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"opentelemetry-guard/{__version__}",
            **signed_headers(key, notice.id, int(time.time()), body),
        }
        set_deadline(settings.timeout)
        connections = Connections(ssl.create_default_context(cafile=settings.ca_file))
        try:
            answer = connections.request("POST", settings.url, headers, body)
            status, wait = answer.status, parse_retry_after(answer.headers.get("Retry-After"))
            answer.close()
        finally:
            connections.close()
        if not 200 <= status < 300:
            aside = ": redirects are not followed" if 300 <= status < 400 else ""
            raise NotTaken(f"the receiver answered {status}{aside}", wait or 0.0)
