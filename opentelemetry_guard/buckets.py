"""Bucket edges that our histograms advise: the SDK's own, from 0 to 10,000, are for milliseconds.

They count where a reader has explicit buckets, as Prometheus and OTLP have by default; the Guard exporter asks for
exponential ones.
"""

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Of durations in seconds. Source: OpenTelemetry semantic conventions, ``http.server.request.duration``."""

SHARES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Of values from 0 to 1: fine at both ends, where a share of 1 % is news."""
