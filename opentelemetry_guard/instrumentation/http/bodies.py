"""A bounded part of a request's body, noted while the application reads it; the application reads all of it as ever."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

import orjson

from .following import FollowedRequest, Message, Receive, Scope

_KINDS = ((b"json", "json"), (b"x-www-form-urlencoded", "form"))
_MOST_STRINGS = 2_000
_LONGEST_NAME = 128
"""Characters that a value's name has of those around it: a long one before each of many values is no longer linear."""
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"?')


def noting(most: int, request: FollowedRequest, receive: Receive) -> Receive:
    """Return a `receive` that notes up to `most` bytes of a JSON or form body as the request's `body`."""
    kind = _kind(request.scope)
    if kind is None:
        return receive
    room = most

    async def listen() -> Message:
        nonlocal room
        message = await receive()
        if room > 0 and message["type"] == "http.request" and (part := message.get("body")):
            _, before = request.body or (kind, b"")
            request.body = (kind, before + part[:room])
            room -= len(part)
        return message

    return listen


def _kind(scope: Scope) -> str | None:
    if scope["type"] != "http":
        return None
    content_type = next((value for name, value in scope.get("headers") or () if name == b"content-type"), b"")
    content_type = content_type.partition(b";")[0].lower()
    return next((kind for ending, kind in _KINDS if content_type.endswith(ending)), None)


def texts_of(body: bytes) -> Iterator[str]:
    """Yield the strings of a JSON body as lines ``name=value``; of one that was cut, what can be told of them."""
    try:
        pending: list[tuple[str, object]] = [("", orjson.loads(body))]
    except orjson.JSONDecodeError:
        yield from map(_unescaped, islice(_STRING.finditer(body), _MOST_STRINGS))
        return
    number = 0
    while pending and number < _MOST_STRINGS:
        name, value = pending.pop()
        number += 1
        if len(name) > _LONGEST_NAME and isinstance(value, (dict, list)):
            yield f"{name}="
            name = name[-_LONGEST_NAME:]
        if isinstance(value, str):
            yield f"{name}={value}"
        elif isinstance(value, dict):
            pending += [(f"{name}.{key}" if name else key, each) for key, each in value.items()]
            yield from (f"={key}" for key in value if not key.isidentifier())
        elif isinstance(value, list):
            pending += [(name, each) for each in value]
        elif name:
            yield f"{name}={value}"


def _unescaped(found: re.Match[bytes]) -> str:
    text = found[1]
    try:
        return "=" + str(orjson.loads(b'"%s"' % text))
    except orjson.JSONDecodeError:
        return "=" + text.decode("utf-8", "replace")
