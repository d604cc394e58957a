"""Getting a list by its URL: only if it has changed, within bounds, and from nobody but whom the URL names."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from urllib3.util import make_headers

from ...delivery.deadline import Connections, set_deadline
from ...delivery.http import read
from ...version import __version__
from .reading import MOST_BYTES

SECONDS = 30.0
"""That a list may take in all."""
MOST_REDIRECTS = 3
"""Redirects that are followed, within one host and scheme."""

_REDIRECTS = (301, 302, 303, 307, 308)


class NotFetched(Exception):
    """A list could not be got; the text says why."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What says which state of a list is known: the answer's ``ETag`` and ``Last-Modified``, as they came."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A list that has changed."""

    content: bytes
    validators: Validators


def checked_url(url: str) -> str:
    """Return the URL of a list.

    Raises:
        ValueError: it is no URL of http or https.
    """
    try:
        parts = urlsplit(url.strip())
        hostname, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"The URL of a ban list is wrong: {error}.") from None
    if parts.scheme not in ("http", "https") or not hostname or any(sign.isspace() for sign in url.strip()):
        raise ValueError("The URL of a ban list begins with http:// or https://, and names a host.")
    return url.strip()


def fetch(url: str, headers: Mapping[str, str], known: Validators) -> Fetched | None:
    """Return a list, None where it is still what is known.

    Args:
        url: of http or https; a user and password in it are sent as Basic credentials.
        headers: more of them, such as an API key.
        known: what came with the list that is known.

    Raises:
        NotFetched: there is no list to be had now.
    """
    set_deadline(SECONDS)
    parts = urlsplit(url)
    asked = {"User-Agent": f"opentelemetry-guard/{__version__}", "Accept-Encoding": "gzip", **headers}
    if parts.username:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        asked["Authorization"] = make_headers(basic_auth=user)["authorization"]
    if known.etag:
        asked["If-None-Match"] = known.etag
    if known.last_modified:
        asked["If-Modified-Since"] = known.last_modified
    here = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
    connections = Connections(ssl.create_default_context() if parts.scheme == "https" else None)
    try:
        return _followed(connections, here, asked)
    except NotFetched:
        raise
    except Exception as error:  # noqa: BLE001  urllib3's and http.client's errors have no common base
        raise NotFetched(f"{type(error).__name__}: {error}"[:200]) from None
    finally:
        connections.close()


def _followed(connections: Connections, url: str, headers: Mapping[str, str]) -> Fetched | None:
    for _ in range(MOST_REDIRECTS + 1):
        response = connections.request("GET", url, headers, None)
        try:
            if response.status in _REDIRECTS:
                url = _target(url, response.headers.get("Location", ""))
                continue
            if response.status == 304:
                return None
            if response.status != 200:
                raise NotFetched(f"the answer has status {response.status}")
            content = read(response, MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                raise NotFetched(f"it is larger than {MOST_BYTES // 1024**2} MiB")
            etag, modified = response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")
            return Fetched(content, Validators(etag, modified))
        finally:
            response.close()
    raise NotFetched(f"it is redirected more than {MOST_REDIRECTS} times")


def _target(url: str, location: str) -> str:
    """Return where a redirect leads; not to another host, which would be sent the key, and could name anybody."""
    target = urljoin(url, location)
    if urlsplit(target)[:2] != urlsplit(url)[:2]:
        raise NotFetched("it is redirected to another host, which is not followed: give the list's own URL")
    return target
