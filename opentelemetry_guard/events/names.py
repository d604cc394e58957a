"""What people call the types of events; machines, filters and exports go by the type itself."""

from __future__ import annotations

from collections.abc import Mapping

from .known import TEST_EVENT

NAMES: Mapping[str, str] = {
    "penetration_attempt": "Attack in a request",
    "pattern_detected": "Attack pattern found",
    "suspicious_request": "Suspicious request",
    "content_filtered": "Content filtered",
    "decoding_error": "Request not decodable",
    "authentication_failed": "Failed login",
    "rate_limited": "Too many requests",
    "ip_banned": "Address banned",
    "ip_blocked": "Address refused",
    "country_blocked": "Country refused",
    "cloud_blocked": "Cloud provider refused",
    "user_agent_blocked": "User agent refused",
    "emergency_mode_block": "Refused in emergency mode",
    "access_denied": "Access denied",
    "dynamic_rule_violation": "Dynamic rule broken",
    "decorator_violation": "Rule of a route broken",
    "custom_request_check": "Refused by a check of the application",
    "csp_violation": "Content security policy broken",
    "https_enforced": "Sent on to HTTPS",
    "behavioral_violation": "Conspicuous behavior",
    "security_bypass": "Security bypassed",
    "emergency_mode_activated": "Emergency mode switched on",
    "ip_ban_failed": "Ban failed",
    "redis_error": "Redis failed",
    "detection_engine_callback_error": "Callback of the detection failed",
    "geo_lookup_failed": "Country not found out",
    "pattern_anomaly_slow_execution": "Slow pattern",
    "pattern_anomaly_timeout": "Pattern timed out",
    "pattern_anomaly_statistical_anomaly": "Pattern slower than usual",
    "ip_unbanned": "Ban lifted",
    "redis_connection": "Redis connected",
    "rate_limit_script_reloaded": "Rate limit script loaded again",
    "dynamic_rule_applied": "Dynamic rules applied",
    "dynamic_rule_updated": "Dynamic rules updated",
    "path_excluded": "Path left out of the checks",
    "route_unresolved": "Route not found",
    "pattern_added": "Pattern added",
    "pattern_removed": "Pattern removed",
    "security_headers_applied": "Security headers set",
    TEST_EVENT: "Test by doctor",
}
"""A name for each type of `known.KNOWN`, and for the event of a test."""


def name_of(event_type: str) -> str:
    """Return what people call a type of events; a type of the application's own is its own name."""
    return NAMES.get(event_type, event_type)
