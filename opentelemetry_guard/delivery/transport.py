"""One HTTP request to the Guard backend, and its answer as a value."""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import requests

from ..config import GuardConfig
from ..queue.base import Batch, Kind
from ..version import __version__
from .deadline import DeadlineAdapter, remaining, set_deadline
from .encoder import plain_body
from .outcome import Outcome, Verdict, judge

MAX_ANSWER = 1024 * 1024
"""Bytes of an answer that are read, enough for an error text a row; the connection of a longer one is closed."""

_PATHS: Mapping[Kind, str] = {"events": "/api/v1/events", "metrics": "/api/v1/metrics"}


_ENCRYPTED_PATH = "/api/v1/events/encrypted"


def signature(secret: str, body: bytes) -> str:
    """Return the value of ``X-Payload-Signature`` for an uncompressed body: HMAC-SHA256, version 1."""
    return "v1=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class Transport(Protocol):
    """Sends one batch. It never raises: whatever happens is an `Outcome`."""

    def send(self, batch: Batch, timeout: float = math.inf) -> Outcome:
        """Send `batch`, within `timeout` seconds if that is less than the setting, and return what became of it."""
        ...

    def close(self) -> None:
        """Close connections; a later `send` opens new ones."""
        ...


class HTTPTransport:
    """Sends batches with `requests`, within one total deadline each, and never follows a redirect.

    Connections are kept alive between requests, per thread: a session is not
    shared, because a shutdown may send on its caller's thread while the
    sender's request is still under way.
    """

    def __init__(self, config: GuardConfig, install_id: Callable[[], str]) -> None:
        """Make a transport.

        Args:
            config: the settings.
            install_id: returns the id of this installation; called once, at the first request.
        """
        self._config = config
        self._install_id = install_id
        self._local = threading.local()

    @cached_property
    def _headers(self) -> Mapping[str, str]:
        config = self._config
        headers = {
            **config.headers,
            "User-Agent": f"opentelemetry-guard/{__version__}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "X-Agent-Install-Id": self._install_id(),
        }
        if config.api_key:
            headers["X-API-Key"] = config.api_key
        if config.project_id:
            headers["X-Project-ID"] = config.project_id
        return headers

    def send(self, batch: Batch, timeout: float = math.inf) -> Outcome:
        """POST a batch; a network error or a passed deadline is an outcome to retry, a missing API key one to hold."""
        if not self._config.api_key:
            return Outcome(Verdict.MISCONFIGURED, reason="there is no API key yet")
        headers = dict(self._headers)
        if batch.content_encoding:
            headers["Content-Encoding"] = batch.content_encoding
        if self._config.signing_secret:
            headers["X-Payload-Signature"] = signature(self._config.signing_secret, plain_body(batch))
        path = _ENCRYPTED_PATH if batch.encrypted else _PATHS[batch.kind]
        return self._request("POST", path, headers, batch.body, timeout)

    def close(self) -> None:
        """Close this thread's connections."""
        session = getattr(self._local, "session", None)
        if session is not None:
            session.close()
            del self._local.session

    def _request(self, method: str, path: str, headers: Mapping[str, str], body: bytes, timeout: float) -> Outcome:
        set_deadline(min(self._config.timeout, timeout))
        try:
            with self._session().request(
                method,
                self._config.endpoint + path,
                data=body,
                headers=headers,
                timeout=remaining(),
                allow_redirects=False,
                stream=True,
                # In the session's place it would give way to REQUESTS_CA_BUNDLE.
                verify=self._config.certificate or True,
            ) as response:
                answer = response.raw.read(MAX_ANSWER, decode_content=True)
                outcome = judge(response.status_code, {k.lower(): v for k, v in response.headers.items()}, answer)
        except Exception as error:  # noqa: BLE001  urllib3's and http.client's errors have no common base; none may pass
            outcome = Outcome(Verdict.RETRY, reason=_describe(error), timed_out=_is_timeout(error))
        return replace(outcome, reason=self._without_secrets(outcome.reason))

    def _without_secrets(self, text: str) -> str:
        """Mask what must never be shown: a backend may quote the key that it refuses."""
        secrets = (self._config.api_key, *self._config.headers.values())
        for secret in sorted((s for s in secrets if s and len(s) > 3), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None or self._local.pid != os.getpid():
            # After a fork the connections are the parent's: two processes would write to one stream.
            session = requests.Session()
            # Else requests looks into ~/.netrc and sends what it finds there as the Authorization header.
            session.auth = _unchanged
            adapter = DeadlineAdapter(max_retries=0, pool_connections=1, pool_maxsize=1)
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            if self._config.client_certificate:
                certificate, key = self._config.client_certificate, self._config.client_key
                session.cert = (certificate, key) if key else certificate
            self._local.session, self._local.pid = session, os.getpid()
        return session


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _is_timeout(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, (TimeoutError, requests.Timeout)) or "timed out" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _describe(error: BaseException) -> str:
    """Name an error and the last cause of it, without the request's headers (no error text holds them)."""
    cause = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    text = f"{type(error).__name__}: {cause}" if cause is not error else f"{type(error).__name__}: {error}"
    return text[:300]
