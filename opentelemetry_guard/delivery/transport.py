"""The calls to the Guard backend, and their answers as values."""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import requests

from ..events.header_text import repaired
from ..queue.base import Batch, Kind
from ..settings.delivery import GuardConfig
from ..settings.shown import without
from ..version import __version__
from .deadline import DeadlineAdapter, remaining, set_deadline
from .encoder import plain_body
from .identity import install_id, state_directory
from .outcome import Outcome, RulesAnswer, Verdict, judge, judge_rules
from .trust import tls_context
from .workers import Workers

if TYPE_CHECKING:
    from ..models import AgentStatus

MAX_ANSWER = 1024 * 1024
"""Bytes of an answer that are read, enough for an error text a row; the connection of a longer one is closed."""
MAX_RULES = 32 * 1024 * 1024
"""Bytes of a rules document that are read: about two million addresses."""

_PATHS: Mapping[Kind, str] = {"events": "/api/v1/events", "metrics": "/api/v1/metrics"}
_ENCRYPTED_PATH = "/api/v1/events/encrypted"
_RULES_PATH = "/api/v1/rules"
_STATUS_PATH = "/api/v1/status"

_NO_KEY = Outcome(Verdict.MISCONFIGURED, reason="there is no API key yet")


def signature(secret: str, body: bytes) -> str:
    """Return the value of ``X-Payload-Signature`` for an uncompressed body: HMAC-SHA256, version 1."""
    return "v1=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class Transport(Protocol):
    """Makes the calls of one destination. It never raises: whatever happens is an `Outcome`.

    Each `timeout` is in seconds and counts where it is less than the
    setting. Any thread may call any method.
    """

    def send(self, batch: Batch, timeout: float = math.inf) -> Outcome:
        """Send `batch` and return what became of it."""
        ...

    def fetch_rules(self, etag: str | None, timeout: float = math.inf) -> RulesAnswer:
        """Ask for the dynamic rules; `etag` is what came with those that are known, None for the first."""
        ...

    def send_status(self, status: AgentStatus, timeout: float = math.inf) -> Outcome:
        """Report how this process is doing."""
        ...

    def close(self) -> None:
        """Close the connections that no call is using; a later call opens new ones."""
        ...


@dataclass(frozen=True, slots=True)
class _Answer:
    """An HTTP answer, with its header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HTTPTransport:
    """Makes the calls with `requests`, within one total deadline each, and never follows a redirect.

    Each request is made on a thread that is left behind at its deadline.
    Connections are kept alive between requests, per such thread: a session is
    not shared, because a shutdown may send while the sender's request is still
    under way. Those for rules and status are closed after the call: the next
    one may be minutes away.
    """

    def __init__(self, config: GuardConfig, identify: Callable[[], str] | None = None) -> None:
        """Make a transport.

        Args:
            config: the settings.
            identify: returns the id of this installation; called once, at the first request. Default: the setting's,
                else the one that is kept in the state directory.
        """
        self._config = config
        self._identify = identify or (lambda: config.install_id or install_id(state_directory()))
        self._made_headers: Mapping[str, str] | None = None
        self._local = threading.local()
        self._workers = Workers("OtelGuardRequest", partial(_close_session, self._local), config.requests_in_flight)

    @property
    def _headers(self) -> Mapping[str, str]:
        # No `cached_property`: before Python 3.12 all of a class share a lock, which a fork leaves held in the child.
        if self._made_headers is None:
            self._made_headers = self._make_headers()
        return self._made_headers

    def _make_headers(self) -> Mapping[str, str]:
        config = self._config
        headers = {
            **config.headers,
            "User-Agent": f"opentelemetry-guard/{__version__}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "X-Agent-Install-Id": self._identify(),
        }
        if config.api_key:
            headers["X-API-Key"] = config.api_key
        if config.project_id:
            headers["X-Project-ID"] = config.project_id
        return headers

    def send(self, batch: Batch, timeout: float = math.inf) -> Outcome:
        """POST a batch; a network error or a passed deadline is an outcome to retry, a missing API key one to hold."""
        if not self._config.api_key:
            return _NO_KEY
        headers = {**self._headers, **self._signed(lambda: plain_body(batch))}
        if batch.content_encoding:
            headers["Content-Encoding"] = batch.content_encoding
        path = _ENCRYPTED_PATH if batch.encrypted else _PATHS[batch.kind]
        answer = self._request("POST", path, headers, batch.body, timeout, MAX_ANSWER)
        return self._judged(answer)

    def fetch_rules(self, etag: str | None, timeout: float = math.inf) -> RulesAnswer:
        """GET the dynamic rules, unless they are still those of `etag`; errors are outcomes as `send` has them."""
        if not self._config.api_key:
            return RulesAnswer(_NO_KEY)
        headers = {name: value for name, value in self._headers.items() if name != "Content-Type"}
        if etag:
            headers["If-None-Match"] = etag
        answer = self._request("GET", _RULES_PATH, headers, None, timeout, MAX_RULES, keep=False, keep_thread=False)
        if isinstance(answer, Outcome):
            return RulesAnswer(answer)
        if len(answer.body) >= MAX_RULES:
            reason = f"the document is larger than {MAX_RULES // 1024**2} MiB"
            return RulesAnswer(Outcome(Verdict.RETRY, answer.status, reason))
        safe = self._quotable(answer)
        told = judge_rules(safe.status, safe.headers, safe.body)
        document = None if told.document is None else answer.body
        return replace(told, outcome=self._without_secrets(told.outcome), document=document)

    def send_status(self, status: AgentStatus, timeout: float = math.inf) -> Outcome:
        """POST a status; errors are outcomes as `send` has them."""
        if not self._config.api_key:
            return _NO_KEY
        body = status.model_dump_json().encode()
        headers = {**self._headers, **self._signed(lambda: body)}
        answer = self._request("POST", _STATUS_PATH, headers, body, timeout, MAX_ANSWER, keep=False)
        return self._judged(answer)

    def close(self) -> None:
        """Close the connections that no call is using."""
        self._workers.close()

    def _signed(self, body: Callable[[], bytes]) -> Mapping[str, str]:
        secret = self._config.signing_secret
        return {"X-Payload-Signature": signature(secret, body())} if secret else {}

    def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: float,
        most: int,
        keep: bool = True,
        keep_thread: bool = True,
    ) -> _Answer | Outcome:
        """Make one request, and read `most` bytes of the answer; where there is none, say why."""
        seconds = min(self._config.timeout, timeout)
        deadline = time.monotonic() + seconds
        request = requests.Request(method, self._config.endpoint + path, headers, data=body)

        def make() -> _Answer:
            set_deadline(deadline - time.monotonic())
            keep_it = False
            try:
                answer = self._answer(request, most)
                keep_it = keep
            finally:
                if not keep_it:
                    # After a failure too: the next session reads certificates anew, which may have been renewed.
                    _close_session(self._local)
            return answer

        try:
            return self._workers.call(make, seconds, keep_thread)
        except Exception as error:  # noqa: BLE001  urllib3's and http.client's errors have no common base; none may pass
            return self._without_secrets(Outcome(Verdict.RETRY, reason=_describe(error), timed_out=_is_timeout(error)))

    def _answer(self, request: requests.Request, most: int) -> _Answer:
        with ask(self._session(), request) as response:
            body = _read(response.raw, response.headers.get("Content-Encoding", ""), most)
            return _Answer(response.status_code, {k.lower(): repaired(v) for k, v in response.headers.items()}, body)

    def _judged(self, answer: _Answer | Outcome) -> Outcome:
        if isinstance(answer, Outcome):
            return answer
        safe = self._quotable(answer)
        return self._without_secrets(judge(safe.status, safe.headers, safe.body))

    def _quotable(self, answer: _Answer) -> _Answer:
        """Mask our secrets in an answer before any part of it is quoted: a cut could go through one."""
        headers = {name: without(self._secrets, value) for name, value in answer.headers.items() if name != "etag"}
        if "etag" in answer.headers:
            headers["etag"] = answer.headers["etag"]
        body = without(self._secrets, answer.body.decode(errors="surrogateescape"))
        return _Answer(answer.status, headers, body.encode(errors="surrogateescape"))

    def _without_secrets(self, outcome: Outcome) -> Outcome:
        """Mask what must never be shown: a backend may quote the key that it refuses."""
        return replace(outcome, reason=without(self._secrets, outcome.reason))

    @property
    def _secrets(self) -> tuple[str | None, ...]:
        return (self._config.api_key, self._config.signing_secret, *self._config.headers.values())

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None or self._local.pid != os.getpid():
            # After a fork the connections are the parent's: two processes would write to one stream.
            session = new_session(self._config)
            self._local.session, self._local.pid = session, os.getpid()
        return session


def _close_session(local: threading.local) -> None:
    """Close this thread's connections."""
    session = getattr(local, "session", None)
    if session is not None:
        session.close()
        del local.session


def new_session(config: GuardConfig) -> requests.Session:
    """Return a session for the backend: it ends at the deadline of its thread, and takes nothing from ``~/.netrc``.

    Raises:
        CertificateError: a certificate can't be used.
    """
    session = requests.Session()
    # Else requests looks into ~/.netrc and sends what it finds there as the Authorization header.
    session.auth = _unchanged
    session.mount("http://", DeadlineAdapter())
    if config.endpoint.lower().startswith("https:"):
        session.mount("https://", DeadlineAdapter(tls_context(config)))
    return session


def ask(session: requests.Session, request: requests.Request) -> requests.Response:
    """Make one request and return the answer, whose body is yet to be read; proxies are the environment's.

    Not the session's own way, which reads the body of a redirect whole, decompressed and without a bound.
    """
    return session.get_adapter(request.url).send(
        session.prepare_request(request),
        stream=True,
        timeout=remaining(),
        proxies=requests.utils.get_environ_proxies(request.url),
    )


_CHUNK = 64 * 1024


def _read(raw: Any, encoding: str, most: int) -> bytes:
    """Read an answer, decompressed: `most` bytes of it at most, and at most `most` bytes from the network.

    Raises:
        ValueError: it is compressed in a way that was not asked for.
        EOFError: it is compressed, and ends before its end.
        zlib.error: it is damaged.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return b"".join(_pieces(raw, most))
    if encoding in ("gzip", "x-gzip"):
        return b"".join(_gunzip(_pieces(raw, most), most))
    raise ValueError(f"the answer's Content-Encoding is {encoding[:40]!r}, only gzip was asked for")


def _pieces(raw: Any, most: int) -> Iterator[bytes]:
    while most > 0 and (data := raw.read(min(_CHUNK, most), decode_content=False)):
        most -= len(data)
        yield data


def _gunzip(pieces: Iterator[bytes], most: int) -> Iterator[bytes]:
    # Not urllib3, which before 2.6 decompresses what it has read as a whole: a megabyte may become gigabytes.
    member = None
    for data in pieces:
        while data and most > 0:
            if member is None or member.eof:
                member = zlib.decompressobj(31)
            piece = member.decompress(data, most)
            most -= len(piece)
            data = member.unconsumed_tail or member.unused_data
            yield piece
        if most <= 0:
            return
    if member is not None and not member.eof:
        raise EOFError("the answer's compressed body is cut short")


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
    while (inner := cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)) is not None:
        cause = inner
    text = f"{type(error).__name__}: {cause}" if cause is not error else f"{type(error).__name__}: {error}"
    return text[:300]
