"""The calls to the Guard backend, and their answers as values."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ..decision.signing import NONCE_HEADER, SIGNATURE_HEADER, Proof, context_of, new_nonce
from ..queue.base import Batch, Kind
from ..settings.delivery import GuardConfig
from ..version import __version__
from .encoder import plain_body
from .http import HTTP, Answer
from .identity import agent_id
from .outcome import Outcome, RulesAnswer, Verdict, judge, judge_rules
from .streaming import MEDIA_TYPE, EventStream
from .wire import Sending

if TYPE_CHECKING:
    from ..models import AgentStatus

MAX_RULES = 32 * 1024 * 1024
"""Bytes of a rules document that are read: about two million addresses."""

_PATHS: Mapping[Kind, str] = {"events": "/api/v1/events", "metrics": "/api/v1/metrics"}
_ENCRYPTED_PATH = "/api/v1/events/encrypted"
_RULES_PATH = "/api/v1/rules"
_RULES_STREAM_PATH = "/api/v1/rules/stream"
_STATUS_PATH = "/api/v1/status"

_NO_KEY = Outcome(Verdict.MISCONFIGURED, reason="there is no API key yet")


def signature(secret: str, body: bytes) -> str:
    """Return the value of ``X-Payload-Signature`` for an uncompressed body: HMAC-SHA256, version 1."""
    return "v1=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class Transport(Sending, Protocol):
    """Makes the calls of one destination that is a Guard backend, those of `Sending` and two more."""

    def fetch_rules(self, etag: str | None, timeout: float = math.inf) -> RulesAnswer:
        """Ask for the dynamic rules; `etag` is what came with those that are known, None for the first."""
        ...

    def send_status(self, status: AgentStatus, timeout: float = math.inf) -> Outcome:
        """Report how this process is doing."""
        ...


class HTTPTransport:
    """Makes the calls over `HTTP`. Connections for rules and status are closed after the call: the next one may be
    minutes away.
    """

    def __init__(self, config: GuardConfig, identify: Callable[[], str] | None = None) -> None:
        """Make a transport.

        Args:
            config: the settings.
            identify: returns the UUID of this agent; called once, at the first request. Default: the setting's,
                else `agent_id`.
        """
        self._config = config
        self._identify = identify or (lambda: config.install_id or agent_id())
        self._made_headers: Mapping[str, str] | None = None
        self._http = HTTP(config, self._secrets)

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
        answer = self._http.request("POST", self._config.endpoint + path, headers, batch.body, timeout)
        return self._judged(answer)

    def fetch_rules(self, etag: str | None, timeout: float = math.inf) -> RulesAnswer:
        """GET the dynamic rules, unless they are still those of `etag`; errors are outcomes as `send` has them."""
        if not self._config.api_key:
            return RulesAnswer(_NO_KEY)
        nonce = new_nonce() if self._config.signing_secret else None
        headers = self._question(nonce)
        if etag:
            headers["If-None-Match"] = etag
        url = self._config.endpoint + _RULES_PATH
        answer = self._http.request("GET", url, headers, None, timeout, MAX_RULES, keep=False, keep_thread=False)
        if isinstance(answer, Outcome):
            return RulesAnswer(answer)
        if len(answer.body) >= MAX_RULES:
            reason = f"the document is larger than {MAX_RULES // 1024**2} MiB"
            return RulesAnswer(Outcome(Verdict.RETRY, answer.status, reason))
        safe = self._http.quotable(answer)
        told = judge_rules(safe.status, safe.headers, safe.body)
        document = None if told.document is None else answer.body
        proof = self.proof(nonce, 0, answer.headers.get(SIGNATURE_HEADER.lower()))
        return replace(told, outcome=self._http.without_secrets(told.outcome), document=document, proof=proof)

    def stream_rules(self, etag: str | None, nonce: str) -> EventStream | Outcome:
        """Ask on the calling thread to be told of rules as they change; errors are outcomes as `send` has them.

        Args:
            etag: what came with the rules that are known, None for the first.
            nonce: what signatures are to be made for.
        """
        if not self._config.api_key:
            return _NO_KEY
        headers = {**self._question(nonce if self._config.signing_secret else None), "Accept": MEDIA_TYPE}
        headers["Accept-Encoding"] = "identity"
        if etag:
            headers["Last-Event-ID"] = etag
        return self._http.stream(self._config.endpoint + _RULES_STREAM_PATH, headers, MAX_RULES)

    def proof(self, nonce: str | None, number: int, signature: str | None) -> Proof | None:
        """Return what says that a document is genuine, as far as it is signed.

        Args:
            nonce: of the question; None where no signature was asked for.
            number: of the document among those of the answer; 0 where it is the only one.
            signature: as the answer has it.
        """
        if nonce is None or signature is None:
            return None
        return Proof(context_of(self._config.api_key or "", nonce, number), signature)

    def _question(self, nonce: str | None) -> dict[str, str]:
        headers = {name: value for name, value in self._headers.items() if name != "Content-Type"}
        return headers if nonce is None else {**headers, NONCE_HEADER: nonce}

    def send_status(self, status: AgentStatus, timeout: float = math.inf) -> Outcome:
        """POST a status; errors are outcomes as `send` has them."""
        if not self._config.api_key:
            return _NO_KEY
        body = status.model_dump_json().encode()
        headers = {**self._headers, **self._signed(lambda: body)}
        url = self._config.endpoint + _STATUS_PATH
        answer = self._http.request("POST", url, headers, body, timeout, keep=False)
        return self._judged(answer)

    def close(self) -> None:
        """Close the connections that no call is using."""
        self._http.close()

    def _signed(self, body: Callable[[], bytes]) -> Mapping[str, str]:
        secret = self._config.signing_secret
        return {"X-Payload-Signature": signature(secret, body())} if secret else {}

    def _judged(self, answer: Answer | Outcome) -> Outcome:
        if isinstance(answer, Outcome):
            return answer
        safe = self._http.quotable(answer)
        return self._http.without_secrets(judge(safe.status, safe.headers, safe.body))

    def _secrets(self) -> tuple[str | None, ...]:
        return (self._config.api_key, self._config.signing_secret, *self._config.headers.values())
