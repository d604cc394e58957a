"""OpenTelemetry exporters to the Guard backend: thin, one for each signal, over one shared delivery."""

from .log import GuardLogExporter, GuardLogProcessor
from .metric import GuardMetricExporter
from .span import GuardSpanExporter

__all__ = ["GuardLogExporter", "GuardLogProcessor", "GuardMetricExporter", "GuardSpanExporter"]
