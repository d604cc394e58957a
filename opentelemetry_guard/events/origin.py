"""Whose telemetry it is: the service, its release, environment and instance, as the Resource says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import orjson
from opentelemetry.sdk.resources import Resource

from .codec import Row
from .enrichment import (
    DEPLOYMENT_ENVIRONMENT,
    RESOURCE_KEYS,
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
)
from .jsonsafe import JSON, safe_text

_LONGEST = 256
"""Characters of a value that travel with each row."""
_UNKNOWN = "unknown_service"
"""The SDK's name of a service that nobody has named, which the name of a program may follow, after a colon."""
_IN_STATUS = {
    SERVICE_NAME: "name",
    SERVICE_VERSION: "version",
    SERVICE_INSTANCE_ID: "instance",
    DEPLOYMENT_ENVIRONMENT: "environment",
}
ORIGIN_KEYS = frozenset(RESOURCE_KEYS.values())
"""The keys of the metadata that name a service or a deployment."""
_GUARD_CORES = "guard-core"
"""The same of guard-core, whose other names stay."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a Resource says of the service, by the keys of an event's metadata; and the same as members of JSON."""

    resource: Resource
    values: dict[str, str]
    members: bytes

    @property
    def service(self) -> dict[str, str]:
        """The values under the names that a status report has for them."""
        return {_IN_STATUS[key]: value for key, value in self.values.items()}

    def put_into(self, row: Row) -> Row:
        """Return a complete row with the values in its metadata; what is there already stays."""
        metadata = row["metadata"]
        if not self.values or not isinstance(metadata, dict):
            return row
        named = metadata
        if SERVICE_NAME in self.values and metadata.get(SERVICE_NAME) == _GUARD_CORES:
            named = {key: value for key, value in metadata.items() if key != SERVICE_NAME}
        return {**row, "metadata": {**named, **{k: v for k, v in self.values.items() if k not in named}}}

    def put_into_tags(self, rows: Iterable[Row]) -> None:
        """Add the values to the tags of metric rows, which are changed; what is there already stays."""
        if self.values:
            for row in rows:
                tags = row.get("tags")
                row["tags"] = {**self.values, **(tags if isinstance(tags, dict) else {})}


_latest: Origin | None = None  # a process has one Resource, as a rule; replaced as a whole


def origin_of(resource: Resource | None) -> Origin:
    """Return what a Resource says of the service."""
    global _latest
    resource = resource or Resource.get_empty()
    known = _latest
    if known is None or known.resource is not resource:
        known = _latest = _read(resource)
    return known


def _read(resource: Resource) -> Origin:
    values: dict[str, JSON] = {}
    for attribute, key in RESOURCE_KEYS.items():
        value = resource.attributes.get(attribute)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)  # a release may be given as a number
        if isinstance(value, str) and value and value.partition(":")[0] != _UNKNOWN:
            values.setdefault(key, safe_text(value)[:_LONGEST])
    texts = {key: str(value) for key, value in values.items()}
    return Origin(resource, texts, orjson.dumps(texts)[1:-1])
