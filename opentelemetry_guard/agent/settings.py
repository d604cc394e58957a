"""What each field of `AgentConfig` becomes: the one table that `docs/agent.md` shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..agent_config import AgentConfig
from ..queue.base import Overflow

_OVERFLOW: Mapping[str, Overflow] = {"drop": "drop_oldest", "block": "drop_newest", "raise": "drop_newest"}
"""``block`` and ``raise`` keep what came first, so a full store refuses what is new."""


def _same(value: object) -> object:
    return value


@dataclass(frozen=True, slots=True)
class _Setting:
    """The attribute of `GuardConfig` that a field becomes, and how its value is written there."""

    name: str
    convert: Callable[[object], object] = _same


DELIVERY: Mapping[str, _Setting] = {
    "api_key": _Setting("api_key"),
    "endpoint": _Setting("endpoint"),
    "project_id": _Setting("project_id"),
    "buffer_size": _Setting("batch_size"),
    "enable_events": _Setting("enable_events"),
    "enable_metrics": _Setting("enable_metrics"),
    "retry_attempts": _Setting("retry_attempts", lambda tries: max(1, int(str(tries)))),
    "timeout": _Setting("timeout"),
    "backoff_factor": _Setting("backoff_factor"),
    "status_interval": _Setting("status_interval"),
    "project_encryption_key": _Setting("encryption_key"),
    "payload_signing_secret": _Setting("signing_secret"),
    "compression_enabled": _Setting("compression", lambda enabled: "gzip" if enabled else "none"),
    "compression_threshold": _Setting("compression_threshold"),
    "install_id": _Setting("install_id"),
    "guard_version": _Setting("guard_version"),
    "guard_core_version": _Setting("guard_core_version"),
    "buffer_overflow_policy": _Setting("queue_overflow", lambda policy: _OVERFLOW[str(policy)]),
}
"""Fields that the delivery goes by, offered to it at the agent's start."""

PRIVACY = ("sensitive_headers", "max_payload_size")
"""Fields that privacy goes by, under the same names."""

OWN = ("flush_interval", "buffer_size", "dynamic_rule_interval", "on_error", "buffer_overflow_policy")
"""Fields that the agent itself goes by: for its processors and metric reader, the rules, the hook and its callers."""


def delivery_settings(config: AgentConfig) -> dict[str, object]:
    """Return the settings of `GuardConfig` that `config` makes, without those that it leaves open."""
    values = {setting.name: setting.convert(getattr(config, field)) for field, setting in DELIVERY.items()}
    return {name: value for name, value in values.items() if value is not None}


def privacy_settings(config: AgentConfig) -> dict[str, object]:
    """Return the settings of `PrivacySettings` that `config` makes."""
    return {name: getattr(config, name) for name in PRIVACY}


def differences(config: AgentConfig, other: AgentConfig) -> list[str]:
    """Say where `other` differs from `config`, with the values of those settings that are no secret."""
    found = []
    for name, field in AgentConfig.model_fields.items():
        ours, theirs = getattr(config, name), getattr(other, name)
        if ours != theirs:
            found.append(f"{name} (kept {ours!r}, not {theirs!r})" if field.repr else name)
    return found
