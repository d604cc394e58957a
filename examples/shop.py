"""The shop of the demonstration."""

from opentelemetry_guard.demo.shop import app as app
