"""The delivery of OTLP requests to one receiver: its requests over HTTP, and the carrier that makes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from google.protobuf.message import Message

from ..delivery.body_limit import BodyLimit
from ..delivery.carrier import Carrier
from ..delivery.http import HTTP
from ..delivery.outcome import MAX_REASON, Outcome, Verdict
from ..queue.base import Batch, Kind
from ..settings import otlp
from ..settings.durable import PREFIX, DurableConfig, Headers, told_now
from ..version import __version__
from .answers import judge
from .forms import FORMS, OTLP
from .requests import Requests


class Posting:
    """Makes the requests: with the headers of the moment, which are stored nowhere."""

    def __init__(self, config: DurableConfig, body: Callable[[Batch], bytes]) -> None:
        """Take the settings, and what returns a batch's body as it goes on the wire."""
        self._config = config
        self._body = body
        self.headers: dict[Kind, Headers] = dict.fromkeys(FORMS, config.headers)
        self._secrets: tuple[str, ...] = ()
        self._http = HTTP(config, lambda: self._secrets)

    def send(self, batch: Batch, timeout: float = math.inf) -> Outcome:
        """POST a batch; a network error or a passed deadline is an outcome to retry."""
        form = FORMS[batch.kind]
        try:
            body = self._body(batch)
        except ValueError as error:
            remedy = f"set {PREFIX}ENCRYPTION_KEY to its key, and replay it"
            return Outcome(Verdict.REFUSED, reason=f"{error}: {remedy}", is_final=True)
        try:
            own = {**otlp.headers(form.signal), **self._told(self.headers[batch.kind], timeout)}
        except Exception as error:  # noqa: BLE001  a callback of the user's; its text may hold a secret
            return Outcome(Verdict.RETRY, reason=f"the headers can't be told now: {type(error).__name__}")
        self._secrets = tuple(own.values())
        url = self._config.endpoint + ("" if self._config.whole else otlp.path_of(form.signal))
        answer = self._http.request("POST", url, {**own, **_headers(batch)}, body, timeout)
        if isinstance(answer, Outcome):
            return answer
        outcome = self._http.without_secrets(judge(batch.kind, answer.status, answer.headers, answer.body))
        return replace(outcome, reason=outcome.reason[:MAX_REASON])

    def _told(self, headers: Headers, timeout: float) -> Mapping[str, str]:
        """Return headers as they are now; whoever has to fetch a token for that may hang."""
        return self._http.within(lambda: told_now(headers), timeout) if callable(headers) else told_now(headers)

    def close(self) -> None:
        """Close the connections that no call is using."""
        self._http.close()


def _headers(batch: Batch) -> Mapping[str, str]:
    encoding = {"content-encoding": batch.content_encoding} if batch.content_encoding else {}
    return {
        "user-agent": f"opentelemetry-guard-durable/{__version__}",
        "content-type": "application/x-protobuf",
        "accept": "application/x-protobuf, application/json",
        "accept-encoding": "gzip",
        **encoding,
    }


class OtlpDelivery(Carrier[DurableConfig]):
    """Delivers OTLP requests to one receiver and tenant, of all signals that share them."""

    wire = OTLP
    _sending: Posting
    _encoder: Requests

    def _new_sending(self) -> Posting:
        return Posting(self.config, lambda batch: self._encoder.body(batch))

    def _new_encoder(self, limit: BodyLimit) -> Requests:
        return Requests.of(self.config, limit)

    def use_headers(self, kind: Kind, headers: Headers) -> None:
        """Send requests of `kind` with these headers from now on, on top of those of the environment."""
        self._sending.headers[kind] = headers

    def submit(self, kind: Kind, message: Message) -> None:
        """Write a request ahead to the queue, and return; it is accepted now, and delivered soon.

        It never raises for a store that fails: requests then wait in memory, bounded.
        """
        self.write_ahead(self._encoder.encode(kind, message))
