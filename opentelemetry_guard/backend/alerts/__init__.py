"""Alerts: rules that say what somebody wants to be told of, and the channels by which it is told."""
