"""What the detectors look at in one request, and what they find: the words that the files of this room share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

FAILED_LOGINS = "failed_logins"
SCANNING = "scanning"
ENUMERATION = "enumeration"
REQUEST_RATE = "request_rate"
ERROR_RATIO = "error_ratio"
CAMPAIGN = "campaign"

BRUTE_FORCE = "brute_force"
STUFFING = "credential_stuffing"
DISTRIBUTED = "distributed_brute_force"
ATTEMPTS = "login_attempts"
SUCCESS = "success_after_failures"
MISSING = "missing_objects"
HARVEST = "harvesting"
REFUSED = "refused_submissions"
KEYS = "guessed_credentials"
CAMPAIGN_LOGINS = "logins_from_many_addresses"
CAMPAIGN_PATHS = "paths_from_many_addresses"
CAMPAIGN_OBJECTS = "objects_from_many_addresses"
CAMPAIGN_FLOOD = "flood_from_many_addresses"


DAY = 86_400.0
"""Seconds of the longest look."""


class Sighting(NamedTuple):
    """What the detectors look at in one answered request.

    Attributes:
        status: of the answer.
        head: a hash of who is behind an address: the user id, else the user agent.
        named: whether the application has named the user.
        place: a hash of the resource that was asked for, 0 where the request went well.
        thing: a hash of the path itself, 0 where no route with a part of its own has answered.
        address: a hash of the client's address, None where it is unknown.
        user: a hash of the user id, None where there is none.
        credentials: a hash of the credentials that were refused, 0 where there are none.
        is_login: whether it is an attempt to log in.
        failed_login: whether one has failed.
        submits: whether it is no GET or HEAD, as far as it failed.
        alike: whether many other clients fail on the same resource, so that it is nobody's doing.
    """

    status: int
    head: int
    named: bool = False
    place: int = 0
    thing: int = 0
    address: int | None = None
    user: int | None = None
    credentials: int = 0
    is_login: bool = False
    failed_login: bool = False
    submits: bool = False
    alike: bool = False


class Finding(NamedTuple):
    """What is conspicuous: the detector, the pattern where it knows several, and what returns the explanation.

    Most findings belong to an incident that was told, and are never explained: a flood has to stay cheap. An
    explanation is asked for at once or not at all.
    """

    detector: str
    pattern: str
    explain: Callable[[], Explanation]


class Explanation(NamedTuple):
    """The reason in words, and the evidence."""

    reason: str
    evidence: dict[str, object]


def least(threshold: float) -> float:
    """Return the least estimate that is the threshold when it is rounded."""
    return threshold - 0.5


def suspects(max_clients: int) -> int:
    """Return of how many clients a detector of failures has rows."""
    return max(max_clients // _SUSPECT_SHARE, 16)


_SUSPECT_SHARE = 16
