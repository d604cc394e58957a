"""The ways in which alerts are told, as data. Secrets are read once, and shown nowhere."""

from __future__ import annotations

import os
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from typing_extensions import Self

from .rules import Strict
from .signature import secret_bytes


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError("it must be an http or https URL without a user in it")
    return url


def _mail_address(text: str) -> str:
    name, address = parseaddr(text)
    if name or address != text or "@" not in text.strip("@") or not text.isascii() or not text.isprintable():
        raise ValueError("it must be one bare address such as ops@example.com")
    return text


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("there is no such file")
    return path


def _from_environment(given: Any, field: str) -> Any:
    """Put the value of the variable that ``<field>_env`` names in the place of `field`."""
    if not isinstance(given, dict) or f"{field}_env" not in given:
        return given
    if field in given:
        raise ValueError(f"give {field} or {field}_env, not both")
    name = given[f"{field}_env"]
    value = os.environ.get(name) if isinstance(name, str) else None
    if not value:
        raise ValueError(f"{field}_env names a variable that isn't set")
    return {**{key: one for key, one in given.items() if key != f"{field}_env"}, field: value}


MailAddress = Annotated[str, AfterValidator(_mail_address)]
"""A bare address."""

HttpUrl = Annotated[str, AfterValidator(_http_url)]
"""An http or https URL."""

CaFile = Annotated[Path, AfterValidator(_file)]
"""A file of PEM certificates."""


def _whole_secret(secret: SecretStr) -> SecretStr:
    secret_bytes(secret.get_secret_value())
    return secret


class WebhookChannel(Strict):
    """A POST of JSON to `url`, signed with `secret` as Standard Webhooks says; redirects are not followed.

    `ca_file` is trusted in the place of the system's authorities. `timeout` is in seconds, for the whole request.
    """

    type: Literal["webhook"]
    url: HttpUrl
    secret: Annotated[SecretStr, AfterValidator(_whole_secret)]
    ca_file: CaFile | None = None
    timeout: float = Field(10.0, gt=0, le=60)

    @model_validator(mode="before")
    @classmethod
    def _read_secret(cls, given: Any) -> Any:
        return _from_environment(given, "secret")

    @property
    def shown(self) -> str:
        """Where it goes, without what of the URL may be a secret: path and query."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may repeat."""
        parts = urlsplit(self.url)
        return (self.secret.get_secret_value(), self.url, f"{parts.path}?{parts.query}", parts.path, parts.query)


class SmtpChannel(Strict):
    """A mail from `sender` to `recipients`, by the server at `host`.

    `security` is ``starttls`` (the default port is 587), ``tls`` (465) or ``none`` (25), which a `password` can't be
    sent with. `ca_file` is trusted in the place of the system's authorities. `timeout` is in seconds, for all of it.
    """

    type: Literal["smtp"]
    host: str = Field(min_length=1)
    port: int | None = Field(None, ge=1, le=65_535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: SecretStr | None = None
    sender: MailAddress
    recipients: tuple[MailAddress, ...] = Field(min_length=1, max_length=50)
    ca_file: CaFile | None = None
    timeout: float = Field(20.0, gt=0, le=60)

    @model_validator(mode="before")
    @classmethod
    def _read_password(cls, given: Any) -> Any:
        return _from_environment(given, "password")

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("give username and password, or neither")
        if self.security == "none" and self.password is not None:
            raise ValueError('a password is sent over TLS alone: use security = "starttls" or "tls"')
        return self

    @property
    def port_used(self) -> int:
        """The port, or what is usual for the security."""
        return self.port or {"starttls": 587, "tls": 465, "none": 25}[self.security]

    @property
    def shown(self) -> str:
        """Where it goes."""
        return f"{', '.join(self.recipients[:3])}{', …' if len(self.recipients) > 3 else ''} by {self.host}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may repeat."""
        return () if self.password is None else (self.password.get_secret_value(),)


class OtelChannel(Strict):
    """A log record with the event name ``guard.alert``, where this process has an SDK's LoggerProvider."""

    type: Literal["otel"]

    @property
    def shown(self) -> str:
        """Where it goes."""
        return "the OpenTelemetry logs of this process"

    @property
    def secrets(self) -> tuple[str, ...]:
        """None."""
        return ()


ChannelSettings = Annotated[WebhookChannel | SmtpChannel | OtelChannel, Field(discriminator="type")]
"""Any channel, told apart by its `type`."""
