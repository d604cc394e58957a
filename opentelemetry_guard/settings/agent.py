"""The agent's settings, as the documents have them, and what each becomes: its own or fastapi-guard's.

Which setting a field of `AgentConfig`, or of fastapi-guard's
`SecurityConfig`, becomes stands where that setting is declared.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from . import values
from .delivery import DEFAULT_ENDPOINT, GuardConfig
from .instrumentation import GuardOptions
from .once import log_once
from .privacy import DEFAULT_HEADERS, PrivacySettings
from .setting import Group, Parser, Setting, SettingError
from .shown import quoted
from .table import SETTINGS

_logger = logging.getLogger(__name__)

ErrorHook = Callable[[str, BaseException, dict[str, Any]], None]
"""Called with the stage, the exception and the context of a failure."""

OverflowPolicy = Literal["drop", "block", "raise"]

_SUPERSEDED = {
    "high_watermark_ratio": "a batch goes out as soon as it is full: set buffer_size",
    "max_concurrent_flushes": "one sender delivers batch after batch",
}
"""Settings of the current release of guard-agent for which there is nothing to set here, and why."""


def _within(parse: Parser) -> BeforeValidator:
    """Return a validator that reads a value as a setting does, and says what it was given otherwise."""

    def check(value: object) -> object:
        try:
            return parse(value)
        except ValueError as error:
            raise ValueError(f"it is {quoted(value)}, which can't be used: {error}") from None

    return BeforeValidator(check)


def _like(group: type[Group], name: str) -> BeforeValidator:
    """Return the validator of the setting that a field becomes."""
    return _within(group.settings()[name].declared.parse)


def _optional_text(value: object) -> object:
    """Read blank text as not given: that is what an unset variable becomes."""
    return None if isinstance(value, str) and not value.strip() else value


OptionalText = Annotated["str | None", BeforeValidator(_optional_text)]


class AgentConfig(BaseModel):
    """Settings of `guard_agent`. Where the environment (``OTEL_*``) sets the same, the environment wins.

    Attributes:
        api_key: key of the Guard backend.
        endpoint: base URL of the backend.
        project_id: project that the rows belong to.
        buffer_size: events in one request, and so many at once make one go out early.
        flush_interval: seconds after which a batch goes out that is not full, and between two exports of metrics.
        enable_metrics: whether metrics are delivered.
        enable_events: whether events are delivered.
        retry_attempts: tries of one burst before a batch goes back to the backlog; none discards anything.
        timeout: seconds that one request may take in all.
        backoff_factor: seconds before the second try; each further pause is twice as long, before jitter.
        sensitive_headers: headers whose values are left out, whatever their case.
        max_payload_size: bytes of one text of an event; longer ones are cut.
        dynamic_rule_interval: seconds between two polls of the dynamic rules; 0 polls none.
        status_interval: seconds between two status reports; 0 sends none.
        project_encryption_key: urlsafe base64 of the 32 bytes that rows are encrypted with.
        payload_signing_secret: secret that every body is signed with.
        compression_enabled: whether bodies are compressed.
        compression_threshold: bytes of a body from which on it is compressed.
        install_id: UUID of this installation.
        guard_version: release of fastapi-guard that batches bear; None is the installed one.
        guard_core_version: release of guard-core that batches bear; None is the installed one.
        buffer_overflow_policy: what gives way when events come faster than they can be stored. ``drop``: the oldest.
            ``block``: the caller, who stores what is waiting. ``raise``: `send_event` raises `BufferFullError`.
        on_error: called with a stage (``transport_send``, ``status``, ``rules``, ``emission``), an exception and a
            context where something fails. It may be called from any thread; what it raises is logged.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True)

    api_key: str = Field(repr=False)
    endpoint: str = DEFAULT_ENDPOINT
    project_id: OptionalText = None
    buffer_size: Annotated[int, _like(GuardConfig, "batch_size")] = 100
    flush_interval: Annotated[float, _within(values.seconds(0.05))] = 30
    enable_metrics: bool = True
    enable_events: bool = True
    retry_attempts: Annotated[int, _within(values.whole(0, 1000))] = 3
    timeout: Annotated[float, _like(GuardConfig, "timeout")] = 30
    backoff_factor: Annotated[float, _like(GuardConfig, "backoff_factor")] = 1.0
    sensitive_headers: list[str] = Field(default_factory=lambda: sorted(DEFAULT_HEADERS))
    max_payload_size: Annotated[int, _like(PrivacySettings, "max_payload_size")] = 1024
    dynamic_rule_interval: Annotated[float, _like(GuardOptions, "rules_interval")] = 300
    status_interval: Annotated[float, _like(GuardConfig, "status_interval")] = 300
    project_encryption_key: str | None = Field(default=None, repr=False)
    payload_signing_secret: str | None = Field(default=None, repr=False)
    compression_enabled: bool = True
    compression_threshold: Annotated[int, _like(GuardConfig, "compression_threshold")] = 1024
    install_id: OptionalText = None
    guard_version: OptionalText = None
    guard_core_version: OptionalText = None
    buffer_overflow_policy: OverflowPolicy = "drop"
    on_error: ErrorHook | None = Field(default=None, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _name_what_is_unknown(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for name in data.keys() - cls.model_fields.keys():
                why = _SUPERSEDED.get(name, f"the settings are {', '.join(cls.model_fields)}")
                log_once(_logger, logging.WARNING, f"AgentConfig has no setting {name!r}, it has no effect: {why}")
        return data

    @field_validator("endpoint", "api_key", "project_id", "install_id", mode="after")
    @classmethod
    def _as_the_delivery_takes_it(cls, value: str | None, info: Any) -> str | None:
        return value if value is None else _checked(info.field_name, value)

    @field_validator("project_encryption_key", mode="after")
    @classmethod
    def _encryption_key(cls, value: str | None) -> str | None:
        return value if value is None else _checked("encryption_key", value)

    @field_validator("payload_signing_secret", mode="after")
    @classmethod
    def _signing_secret(cls, value: str | None) -> str | None:
        return value if value is None else _checked("signing_secret", value)


def _checked(setting: str, value: str) -> str:
    """Return a value as the delivery takes it; what is wrong with a secret is said without its value."""
    if not value.strip():
        raise ValueError("it must not be blank")
    try:
        return str(GuardConfig.parse(setting, value))
    except SettingError as error:
        raise ValueError(str(error).partition(" ")[2]) from None


def settings_of_agent(config: AgentConfig) -> dict[str, object]:
    """Return the late settings that `config` makes, without those that it leaves open."""
    values = {found.name: found.declared.convert(getattr(config, field)) for field, found in _late_by_field().items()}
    return {name: value for name, value in values.items() if value is not None}


def settings_of_security(config: Any) -> dict[str, object]:
    """Return the late settings that an application has made in fastapi-guard's `SecurityConfig`, by name.

    Only fields that it has set count, so that fastapi-guard's defaults change nothing.
    """
    return {
        found.name: found.declared.convert(getattr(config, f"agent_{field}"))
        for field, found in _late_by_field().items()
        if says(config, f"agent_{field}")
    }


def says(config: Any, field: str) -> bool:
    """Whether an application has set a field of its `SecurityConfig` to something."""
    return field in getattr(config, "model_fields_set", ()) and getattr(config, field, None) not in (None, "")


def differences(config: AgentConfig, other: AgentConfig) -> list[str]:
    """Say where `other` differs from `config`, with the values of those settings that are no secret."""
    found = []
    for name, field in AgentConfig.model_fields.items():
        ours, theirs = getattr(config, name), getattr(other, name)
        if ours != theirs:
            found.append(f"{name} (kept {ours!r}, not {theirs!r})" if field.repr else name)
    return found


def _late_by_field() -> dict[str, Setting]:
    """Return the settings that may arrive late from a configuration, by the field that `AgentConfig` has for each."""
    return {found.declared.agent: found for found in SETTINGS if found.declared.agent and found.group.LATE}
