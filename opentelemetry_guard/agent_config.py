"""The agent's settings, as the documents have them; `docs/agent.md` says what each becomes in OpenTelemetry."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from .config import DEFAULT_ENDPOINT, SettingError, parse_setting
from .once import log_once
from .privacy.sensitive_names import DEFAULT_HEADERS

_logger = logging.getLogger(__name__)

ErrorHook = Callable[[str, BaseException, dict[str, Any]], None]
"""Called with the stage, the exception and the context of a failure."""

OverflowPolicy = Literal["drop", "block", "raise"]

_SUPERSEDED = {
    "high_watermark_ratio": "a batch goes out as soon as it is full: set buffer_size",
    "max_concurrent_flushes": "one sender delivers batch after batch",
}
"""Settings of the current release of guard-agent for which there is nothing to set here, and why."""


def _number(low: float, high: float, *, whole: bool = False, or_zero: bool = False) -> BeforeValidator:
    """Return a validator that takes a number from `low` to `high`, and says what it was given otherwise."""
    allowed = f"{'a whole number' if whole else 'a number'} from {low:g} to {high:g}{', or 0' if or_zero else ''}"

    def check(value: object) -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not (low <= number <= high or (or_zero and number == 0)) or (whole and number != int(number)):
            raise ValueError(f"it is {value!r}, allowed is {allowed}")
        return int(number) if number == int(number) else number

    return BeforeValidator(check)


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
    buffer_size: Annotated[int, _number(1, 100_000, whole=True)] = 100
    flush_interval: Annotated[float, _number(0.05, 86_400)] = 30
    enable_metrics: bool = True
    enable_events: bool = True
    retry_attempts: Annotated[int, _number(0, 1000, whole=True)] = 3
    timeout: Annotated[float, _number(0.001, 3600)] = 30
    backoff_factor: Annotated[float, _number(0.001, 3600)] = 1.0
    sensitive_headers: list[str] = Field(default_factory=lambda: sorted(DEFAULT_HEADERS))
    max_payload_size: Annotated[int, _number(1, 1024 * 1024, whole=True)] = 1024
    dynamic_rule_interval: Annotated[float, _number(1, 86_400, or_zero=True)] = 300
    status_interval: Annotated[float, _number(1, 86_400, or_zero=True)] = 300
    project_encryption_key: str | None = Field(default=None, repr=False)
    payload_signing_secret: str | None = Field(default=None, repr=False)
    compression_enabled: bool = True
    compression_threshold: Annotated[int, _number(0, 1024 * 1024, whole=True)] = 1024
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
        return str(parse_setting(setting, value))
    except SettingError as error:
        raise ValueError(str(error).partition(" ")[2]) from None
