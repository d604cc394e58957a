"""A transport of the user's own, as the delivery calls it."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from .. import privacy
from ..delivery.encoder import Encoder
from ..delivery.envelope import Envelope
from ..delivery.outcome import Outcome, RulesAnswer, Verdict
from ..delivery.workers import Ended, Workers
from ..events.codec import Row
from ..models import AgentStatus, DynamicRules, SecurityEvent, SecurityMetric
from ..queue.base import Batch, Kind
from ..settings.delivery import GuardConfig
from ..settings.once import log_once
from .loop import LoopThread

_logger = logging.getLogger(__name__)

REQUIRED = ("send_events", "send_metrics", "fetch_dynamic_rules", "send_status")
"""The methods of `TransportProtocol`."""


class CustomTransport:
    """A user's `TransportProtocol` object in the place of HTTP.

    Coroutines run on one event loop in a thread of its own, so that a
    transport never blocks the application's loop, nor that loop the delivery.
    Plain methods run on a thread that is left behind where they hang.
    """

    def __init__(self, theirs: object, loop: LoopThread, config: Callable[[], GuardConfig | None]) -> None:
        """Make an adapter.

        Args:
            theirs: the user's object.
            loop: where its coroutines run.
            config: returns the settings of the delivery that calls; None where there is none.

        Raises:
            TypeError: `theirs` lacks a method, or is a class.
        """
        if isinstance(theirs, type):
            raise TypeError(
                f"the class {theirs.__name__} can't be agent.transport: assign an object, {theirs.__name__}()"
            )
        missing = [name for name in REQUIRED if not callable(getattr(theirs, name, None))]
        if missing:
            raise TypeError(
                f"a {type(theirs).__name__} can't be agent.transport: it has no {', '.join(missing)} "
                "(see opentelemetry_guard.protocols.TransportProtocol)"
            )
        self.theirs: Any = theirs
        self._name = type(theirs).__name__
        self._config = config
        self._loop = loop
        self._workers = Workers("OtelGuardTransportCall", lambda: None)
        self._opened = False
        self.reset()

    def reset(self) -> None:
        """Have a lock of its own, in the child of a fork: the parent's may be held."""
        self._opening = threading.Lock()  # held while `initialize` runs, which is once

    def send(self, batch: Batch, timeout: float = math.inf) -> Outcome:
        """Hand a batch over as models; whatever is not True or None is a reason to try again."""
        try:
            rows = _models(batch.kind, self._rows(batch))
        except ValueError as error:
            return Outcome(Verdict.REFUSED, reason=str(error))
        call = self.theirs.send_events if batch.kind == "events" else self.theirs.send_metrics
        return self._handed_over(lambda: call(rows), timeout)

    def send_status(self, status: AgentStatus, timeout: float = math.inf) -> Outcome:
        """Hand a status over."""
        return self._handed_over(lambda: self.theirs.send_status(status), timeout)

    def fetch_rules(self, etag: str | None, timeout: float = math.inf) -> RulesAnswer:
        """Ask for the rules; a hash of them stands for the version."""
        outcome, found = self._asked(lambda: self.theirs.fetch_dynamic_rules(), timeout)
        if found is None:
            return RulesAnswer(outcome)
        try:
            document = _document(found)
        except Exception as error:  # noqa: BLE001  their model's own methods may raise anything
            return RulesAnswer(Outcome(Verdict.RETRY, reason=_safe(f"{type(error).__name__}: {error}")))
        version = hashlib.sha256(document).hexdigest()
        return RulesAnswer(outcome) if version == etag else RulesAnswer(outcome, document, version)

    def close(self) -> None:
        """End the idle thread; what is open is theirs, see `end`."""
        self._workers.close()

    def end(self, timeout: float) -> None:
        """Call their `close` where there is one, within `timeout` seconds."""
        if self._opened and callable(getattr(self.theirs, "close", None)):
            self._opened = False
            try:
                self._call(lambda: self.theirs.close(), timeout)
            except Exception as error:  # noqa: BLE001  a user's own transport may raise anything; a shutdown goes on
                _logger.warning("the transport %s could not be closed: %r", self._name, error)
        self._workers.close()

    def _rows(self, batch: Batch) -> list[Row]:
        config = self._config()
        key = None if config is None else config.encryption_key
        return Encoder(None, "none", Envelope(key) if key else None).rows(batch)

    def _handed_over(self, call: Callable[[], object], timeout: float) -> Outcome:
        outcome, result = self._asked(call, timeout)
        if result is None or result is True:
            return outcome
        kind = "False" if result is False else f"a value of type {type(result).__name__}"
        if result is not False:
            self._say(f"returned {kind}; only True, or None, says that it has taken what it was given")
        if inspect.iscoroutine(result):
            result.close()
        return Outcome(Verdict.RETRY, reason=f"{self._name} returned {kind}")

    def _asked(self, call: Callable[[], object], timeout: float) -> tuple[Outcome, object]:
        """Make a call; return how it ended, and what it has returned, None where it has failed."""
        try:
            with self._opening:
                if not self._opened:
                    if callable(getattr(self.theirs, "initialize", None)):
                        self._call(lambda: self.theirs.initialize(), timeout)
                    self._opened = True
            return Outcome(Verdict.ACCEPTED), self._call(call, timeout)
        except Ended as error:
            self._say(f"raised {error}, which ended the call alone")
            return Outcome(Verdict.RETRY, reason=_safe(f"{self._name} raised {error}")), None
        except Exception as error:  # noqa: BLE001  a user's own transport may raise anything; the batch is kept
            reason = _safe(f"{self._name} raised {type(error).__name__}: {error}")
            return Outcome(Verdict.RETRY, reason=reason, timed_out=isinstance(error, TimeoutError)), None

    def _say(self, what: str) -> None:
        log_once(
            _logger,
            logging.ERROR,
            f"the transport {self._name} {what}. Rows are kept, and come again",
            cause=f"{self._name} {what[:60]}",
        )

    def _call(self, call: Callable[[], object], timeout: float) -> object:
        config = self._config()
        seconds = timeout if config is None else min(timeout, config.timeout)
        ends_at = time.monotonic() + seconds
        result = self._workers.call(call, seconds)
        if not inspect.isawaitable(result):
            return result

        async def awaited() -> object:
            try:
                return await result
            except (Exception, asyncio.CancelledError):
                raise
            except BaseException as error:  # noqa: BLE001  it would end the loop, which the next call needs
                raise Ended(f"{type(error).__name__}: {error}") from None

        return self._loop.run(awaited(), ends_at - time.monotonic())


def _models(kind: Kind, rows: Sequence[Row]) -> list[Any]:
    model = SecurityEvent if kind == "events" else SecurityMetric
    models = []
    for row in rows:
        try:
            models.append(model.model_validate(row))
        except ValidationError as error:
            # A record of somebody else's making; its field is said, the value may be a secret.
            log_once(
                _logger,
                logging.WARNING,
                f"{kind} that are not as the contract has them go to the transport unchecked; the first for its "
                f"{'.'.join(map(str, error.errors()[0]['loc']))}",
                cause=f"unchecked {kind} for a transport",
            )
            models.append(model.model_construct(**row))  # type: ignore[arg-type]
    return models


def _document(rules: object) -> bytes:
    """Return rules as JSON: our model, another package's, or a mapping.

    Raises:
        ValueError: they are none of these, or not valid.
    """
    dump = getattr(rules, "model_dump", None)
    fields = dump(mode="json") if callable(dump) else rules
    if not isinstance(fields, Mapping):
        raise ValueError(f"fetch_dynamic_rules returned a {type(rules).__name__}, expected is DynamicRules or None")
    return DynamicRules.model_validate(fields).model_dump_json().encode()


def _safe(text: str) -> str:
    """Return the text of a user's error as it may be shown: it may quote a URL with a password, or a header."""
    return privacy.current().text(text)[:300]
