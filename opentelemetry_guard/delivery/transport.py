"""One HTTP request to the Guard backend, and its answer as a value."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Protocol

import requests

from ..config import GuardConfig
from ..queue.base import Batch, Kind
from ..version import __version__
from .deadline import DeadlineAdapter, remaining, set_deadline
from .outcome import Outcome, Verdict, judge

MAX_ANSWER = 64 * 1024
"""Bytes of an answer that are read; the connection of a longer one is closed."""

_PATHS: Mapping[Kind, str] = {"events": "/api/v1/events", "metrics": "/api/v1/metrics"}


class Transport(Protocol):
    """Sends one batch. It never raises: whatever happens is an `Outcome`."""

    def send(self, batch: Batch) -> Outcome:
        """Send `batch` and return what became of it."""
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

    def send(self, batch: Batch) -> Outcome:
        """POST a batch; a network error or a passed deadline is an outcome to retry, a missing API key one to hold."""
        if not self._config.api_key:
            return Outcome(Verdict.MISCONFIGURED, reason="there is no API key yet")
        headers = dict(self._headers)
        if batch.content_encoding:
            headers["Content-Encoding"] = batch.content_encoding
        return self._request("POST", _PATHS[batch.kind], headers, batch.body)

    def close(self) -> None:
        """Close this thread's connections."""
        session = getattr(self._local, "session", None)
        if session is not None:
            session.close()
            del self._local.session

    def _request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        set_deadline(self._config.timeout)
        try:
            with self._session().request(
                method,
                self._config.endpoint + path,
                data=body,
                headers=headers,
                timeout=remaining(),
                allow_redirects=False,
                stream=True,
            ) as response:
                answer = response.raw.read(MAX_ANSWER, decode_content=True)
                return judge(response.status_code, {k.lower(): v for k, v in response.headers.items()}, answer)
        except (requests.Timeout, TimeoutError) as error:
            return Outcome(Verdict.RETRY, reason=_describe(error), timed_out=True)
        except (requests.RequestException, OSError, ValueError) as error:
            return Outcome(Verdict.RETRY, reason=_describe(error), timed_out=_is_timeout(error))
        except Exception as error:  # noqa: BLE001  urllib3's and http.client's errors have no common base; none may pass
            return Outcome(Verdict.RETRY, reason=_describe(error), timed_out=_is_timeout(error))

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            adapter = DeadlineAdapter(max_retries=0, pool_connections=1, pool_maxsize=1)
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            if self._config.certificate:
                session.verify = self._config.certificate
            if self._config.client_certificate:
                certificate, key = self._config.client_certificate, self._config.client_key
                session.cert = (certificate, key) if key else certificate
            self._local.session = session
        return session


def _is_timeout(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, TimeoutError) or "timed out" in str(error):
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
