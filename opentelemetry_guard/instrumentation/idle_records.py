"""Log records of others are kept from the batch processors whose exporter looks for security events alone.

`OTEL_LOGS_EXPORTER=guard` has the SDK make such a processor. It would copy and queue each record of the application's
loggers, and have the exporter find that there is nothing in it.
"""

from __future__ import annotations

from functools import partial

from opentelemetry._logs import LoggerProvider, get_logger_provider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

from .patching import Patches

_patches = Patches()


def install(logger_provider: LoggerProvider | None = None) -> None:
    """Spare the processors that a provider has by now, the global one by default, what they would do for nothing."""
    provider = logger_provider or get_logger_provider()
    # The SDK has no public way to them; where it keeps them elsewhere one day, each record is taken as before.
    chain = getattr(provider, "_multi_log_record_processor", None)
    for processor in getattr(chain, "_log_record_processors", ()):
        exporter = getattr(getattr(processor, "_batch_processor", None), "_exporter", None)
        # A class that was derived from the SDK's, or from ours, may do more with a record.
        reads_events_alone = vars(type(exporter)).get("reads_events_alone")
        if type(processor) is BatchLogRecordProcessor and reads_events_alone and "on_emit" not in vars(processor):
            # Here, since it imports what such an exporter has imported, and what nobody else needs.
            from ..events.sifting import Sifter

            _patches.wrap(processor, "on_emit", partial(Sifter, processor))


def uninstall() -> None:
    """Give all records to all processors again."""
    _patches.undo()
