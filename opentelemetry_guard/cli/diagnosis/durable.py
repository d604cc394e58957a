"""Whether what the durable exporters for OTLP need is there: their extra, settings, a receiver, and a queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...delivery.outcome import Outcome, Verdict
from ...queue.base import Batch
from ...settings.durable import DurableConfig
from ...settings.otlp import Signal
from ...settings.setting import SettingError
from ..otlp import signals_in_use
from .finding import Finding, ok, problem, warning
from .store import check_store

_SECONDS = 5.0
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def check_durable(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what there is to say about the durable exporters that the environment selects, if it does."""
    seen: set[str] = set()
    for signal in signals_in_use(environ):
        try:
            config = DurableConfig.of(signal)
        except SettingError as error:
            name, _, what = str(error).partition(" ")
            yield problem(name, what, f"correct {name}: until then no {signal} are exported")
            continue
        yield from _check_receiver(signal, config)
        if config.destination not in seen:
            seen.add(config.destination)
            yield from check_store(config)


def _check_receiver(signal: Signal, config: DurableConfig) -> Iterator[Finding]:
    """Send a request without rows, which every receiver takes."""
    try:
        from ...durable.delivery import Posting
        from ...durable.forms import FORMS
    except ImportError as error:
        yield problem("opentelemetry-guard[durable]", str(error), "pip install 'opentelemetry-guard[durable]'")
        return
    kind = next(kind for kind, form in FORMS.items() if form.signal == signal)
    posting = Posting(config, lambda batch: batch.body)
    outcome = posting.send(Batch("doctor", kind, 0, b""), _SECONDS)
    posting.close()
    yield _judged(signal, config, outcome)


def _judged(signal: Signal, config: DurableConfig, outcome: Outcome) -> Finding:
    where = f"{config.endpoint} for {signal}"
    if outcome.verdict is Verdict.ACCEPTED:
        return ok(_ENDPOINT, f"{where} takes requests")
    if outcome.verdict is Verdict.RETRY:
        return problem(_ENDPOINT, f"{where} can't be used now: {outcome.text}", f"check {_ENDPOINT}, and the receiver")
    if outcome.verdict is Verdict.MISCONFIGURED:
        return problem(_ENDPOINT, f"{where} refuses us: {outcome.text}", outcome.remedy.partition(";")[0])
    return warning(_ENDPOINT, f"{where} refuses an empty request: {outcome.text}", "see the receiver's own log")
