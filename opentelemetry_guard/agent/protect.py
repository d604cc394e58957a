"""Exception handlers for single endpoints.

Example::

    class AgentSecurityEventHandler:
        async def handle(self, request, exception):
            emit_event(event_type="suspicious_request", ip_address=request.client.host, reason=str(exception))
            return JSONResponse({"detail": "blocked"}, status_code=403)

    guard = Guard(handlers={"suspicious_request": AgentSecurityEventHandler()})

    @app.get("/items")
    @guard.protect("suspicious_request")
    async def items(): ...
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketState

R = TypeVar("R")

PARAMETER = "opentelemetry_guard_connection"
"""The parameter by which FastAPI hands the request over."""


class ExceptionHandler(Protocol):
    """What deals with an exception of an endpoint."""

    def handle(self, request: Any, exception: Exception, /) -> Any:
        """Deal with `exception`; a Response that is returned (or awaited) is the answer, anything else is not."""
        ...


class Guard:
    """Named handlers of exceptions, for the endpoints that ask for one."""

    def __init__(self, handlers: Mapping[str, ExceptionHandler]) -> None:
        """Make a guard.

        Args:
            handlers: an object with a method ``handle(request, exception)``, asynchronous or not, for each name.

        Raises:
            TypeError: a handler has no such method, or is a class.
        """
        for name, handler in handlers.items():
            if isinstance(handler, type):
                raise TypeError(f"the handler {name!r} is the class {handler.__name__}, give an instance of it")
            if not callable(getattr(handler, "handle", None)):
                raise TypeError(
                    f"the handler {name!r} is a {type(handler).__name__} without a method handle(request, exception)"
                )
        self._handlers = dict(handlers)

    def protect(self, name: str) -> Callable[[Callable[..., R]], Callable[..., Awaitable[R | Response]]]:
        """Return a decorator for an endpoint of FastAPI or Starlette, whose exceptions go to the handler `name`.

        It stands under the route's decorator. The endpoint needs no parameter
        for the request, and may be a plain function, which runs in a thread
        as ever. A WebSocket is refused with the Response, or closed where it
        was accepted. An exception that the handler gives no Response for is
        raised again, and so is one of a call that has no request. Where an
        endpoint has several handlers, the innermost comes first.

        Raises:
            KeyError: there is no such handler.
            TypeError: the endpoint is a generator, whose exceptions come when the answer has begun.
        """
        if name not in self._handlers:
            known = ", ".join(map(repr, self._handlers)) or "none"
            raise KeyError(f"there is no handler {name!r}; the handlers of this Guard are: {known}")
        handler = self._handlers[name]

        def decorate(endpoint: Callable[..., R]) -> Callable[..., Awaitable[R | Response]]:
            if inspect.isgeneratorfunction(endpoint) or inspect.isasyncgenfunction(endpoint):
                raise TypeError(
                    f"{endpoint.__name__} is a generator, which Guard.protect can't protect: return instead"
                )
            # An endpoint that another handler protects already asks for the request itself, and is handed it on.
            already = PARAMETER in inspect.signature(endpoint).parameters

            @functools.wraps(endpoint)
            async def protected(*arguments: Any, **keywords: Any) -> Any:
                connection = keywords.get(PARAMETER) if already else keywords.pop(PARAMETER, None)
                request = connection or _request_among(arguments, keywords)
                try:
                    return await _outcome(endpoint, *arguments, **keywords)
                except Exception as exception:
                    answer = None if request is None else await _outcome(handler.handle, request, exception)
                    if isinstance(answer, Response) and isinstance(request, WebSocket):
                        if await _answered(request, answer):
                            return None
                    elif isinstance(answer, Response):
                        return answer
                    raise

            if not already:
                _ask_for_connection(protected, endpoint)
            return protected

        return decorate


async def _outcome(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Return what a function returns, in a thread where it is a plain one."""
    if inspect.iscoroutinefunction(function):
        return await function(*arguments, **keywords)
    result = await run_in_threadpool(function, *arguments, **keywords)
    return await result if inspect.isawaitable(result) else result


async def _answered(websocket: WebSocket, answer: Response) -> bool:
    """Answer a WebSocket's client by a handler's Response; return False where nobody is there to hear it.

    A handshake that was not accepted yet is refused with the Response, or without it where the server knows no such
    answer. Afterwards only a close code can be sent: 1008 for a status below 500, 1011 for others (RFC 6455, 7.4.1).
    """
    if WebSocketState.DISCONNECTED in (websocket.client_state, websocket.application_state):
        return False
    if websocket.application_state is WebSocketState.CONNECTED:
        await websocket.close(1008 if answer.status_code < 500 else 1011)
    elif "websocket.http.response" in (websocket.scope.get("extensions") or ()):
        await websocket.send_denial_response(answer)
    else:
        await websocket.close(1008)
    return True


def _request_among(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> HTTPConnection | None:
    """Return the request that Starlette, or a caller by hand, has passed."""
    return next((value for value in (*arguments, *keywords.values()) if isinstance(value, HTTPConnection)), None)


def _ask_for_connection(protected: Callable[..., Any], endpoint: Callable[..., Any]) -> None:
    """Add a parameter to the signature that FastAPI reads.

    As a dependency, since FastAPI fills one parameter of type Request at
    most, and that one may be the endpoint's own.
    """
    try:
        from fastapi import Depends
    except ImportError:
        return
    signature = inspect.signature(endpoint)
    ours = inspect.Parameter(PARAMETER, inspect.Parameter.KEYWORD_ONLY, default=Depends(_connection))
    parameters = list(signature.parameters.values())
    end = len(parameters)
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        end -= 1
    parameters.insert(end, ours)
    protected.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]


def _connection(connection: HTTPConnection) -> HTTPConnection:
    return connection
