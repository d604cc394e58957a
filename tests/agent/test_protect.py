"""Exception handlers of single endpoints."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from opentelemetry_guard import Guard


class AgentSecurityEventHandler:
    """The documents' handler: the user's own class."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    async def handle(self, request: Request, exc: Exception) -> Response | None:
        self.seen.append((request.method, request.url.path, str(exc)))
        if isinstance(exc, LookupError):
            return None
        return JSONResponse({"blocked": str(exc)}, status_code=403)


class SyncHandler(AgentSecurityEventHandler):
    def handle(self, request: Request, exc: Exception) -> Response | None:  # type: ignore[override]
        self.seen.append((request.method, request.url.path, str(exc)))
        return JSONResponse({"sync": True}, status_code=418)


class Item(BaseModel):
    name: str
    price: float = 1.0


handler, sync_handler = AgentSecurityEventHandler(), SyncHandler()
guard = Guard(handlers={"suspicious_request": handler, "sync": sync_handler})
app = FastAPI()
ran: list[str] = []


@app.get("/items/{number}")
@guard.protect("suspicious_request")
async def read(number: int, q: str | None = None) -> dict[str, object]:
    if number < 0:
        raise ValueError("negative")
    return {"number": number, "q": q}


@app.get("/blocking")
@guard.protect("suspicious_request")
def blocking(fail: bool = False) -> dict[str, bool]:
    if fail:
        raise ValueError("from a thread")
    return {"ok": True}


@app.get("/again")
@guard.protect("suspicious_request")
async def again() -> None:
    raise LookupError("nobody's answer")


@app.get("/sync-handler")
@guard.protect("sync")
async def by_sync_handler() -> None:
    raise ValueError("x")


@app.get("/http")
@guard.protect("suspicious_request")
async def http_error() -> None:
    raise HTTPException(404, "gone")


async def user() -> str:
    return "ada"


@app.post("/items", response_model=Item, status_code=201)
@guard.protect("suspicious_request")
async def create(
    item: Item, tasks: BackgroundTasks, who: Annotated[str, Depends(user)], request: Request, response: Response
) -> Any:
    tasks.add_task(ran.append, f"{who} {request.method}")
    response.headers["x-who"] = who
    return {"name": item.name, "price": 2, "secret": "left out by the response model"}


client = TestClient(app, raise_server_exceptions=False)


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    handler.seen.clear()
    ran.clear()


def test_the_handlers_response_is_the_answer_though_the_endpoint_declares_no_request() -> None:
    answer = client.get("/items/-1?q=x")
    assert (answer.status_code, answer.json()) == (403, {"blocked": "negative"})
    assert handler.seen == [("GET", "/items/-1", "negative")]


def test_an_endpoint_that_does_not_raise_is_as_without_us() -> None:
    assert client.get("/items/3?q=x").json() == {"number": 3, "q": "x"}
    assert client.get("/items/three").status_code == 422
    assert handler.seen == []


def test_a_plain_function_is_protected_too() -> None:
    assert client.get("/blocking").json() == {"ok": True}
    assert client.get("/blocking?fail=true").status_code == 403


def test_an_exception_that_the_handler_has_no_answer_for_is_raised_again() -> None:
    assert client.get("/again").status_code == 500
    assert handler.seen == [("GET", "/again", "nobody's answer")]
    with pytest.raises(LookupError):
        TestClient(app).get("/again")


def test_a_handler_that_is_no_coroutine_works() -> None:
    assert client.get("/sync-handler").status_code == 418


def test_an_http_exception_is_an_exception() -> None:
    assert client.get("/http").json() == {"blocked": "404: gone"}


def test_dependencies_bodies_background_tasks_and_response_models_keep_working() -> None:
    answer = client.post("/items", json={"name": "pen"})
    assert (answer.status_code, answer.json()) == (201, {"name": "pen", "price": 2.0})
    assert answer.headers["x-who"] == "ada"
    assert ran == ["ada POST"]


def test_the_schema_shows_nothing_of_us() -> None:
    schema = client.get("/openapi.json").text
    assert "opentelemetry_guard" not in schema
    names = [p["name"] for p in client.get("/openapi.json").json()["paths"]["/items/{number}"]["get"]["parameters"]]
    assert names == ["number", "q"]


def test_endpoints_of_starlette_are_protected_too() -> None:
    @guard.protect("suspicious_request")
    async def endpoint(request: Request) -> Response:
        raise ValueError(request.query_params["why"])

    answer = TestClient(Starlette(routes=[Route("/s", endpoint)])).get("/s?why=because")
    assert answer.json() == {"blocked": "because"}


def test_a_name_without_a_handler_is_an_error_where_it_is_written() -> None:
    with pytest.raises(
        KeyError, match=r"no handler 'typo'; the handlers of this Guard are: 'suspicious_request', 'sync'"
    ):
        guard.protect("typo")


def test_an_object_that_can_handle_nothing_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"the handler 'x' is a int without a method handle"):
        Guard(handlers={"x": 3})  # type: ignore[dict-item]


def test_a_generator_is_an_error() -> None:
    async def stream() -> Any:
        yield b"x"

    with pytest.raises(TypeError, match="stream is a generator"):
        guard.protect("suspicious_request")(stream)


def test_what_the_handler_raises_is_what_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    class Refusing:
        async def handle(self, request: Request, exc: Exception) -> None:
            raise HTTPException(429, "slow down")

    inner = FastAPI()

    @inner.get("/")
    @Guard(handlers={"x": Refusing()}).protect("x")
    async def endpoint() -> None:
        raise ValueError("x")

    with caplog.at_level(logging.ERROR):
        assert TestClient(inner).get("/").status_code == 429


def test_an_endpoint_may_have_several_handlers_of_which_the_innermost_comes_first() -> None:
    outer, inner = SyncHandler(), AgentSecurityEventHandler()
    both = Guard(handlers={"outer": outer, "inner": inner})
    several = FastAPI()

    @several.get("/several")
    @both.protect("outer")
    @both.protect("inner")
    async def fails(unanswered: bool) -> None:
        raise LookupError("none") if unanswered else ValueError("answered")

    client = TestClient(several)
    assert client.get("/several?unanswered=false").json() == {"blocked": "answered"}
    assert outer.seen == []
    assert client.get("/several?unanswered=true").json() == {"sync": True}
    assert [seen[2] for seen in inner.seen] == ["answered", "none"]


def test_a_class_in_the_place_of_a_handler_is_an_error() -> None:
    with pytest.raises(TypeError, match="'h' is the class SyncHandler, give an instance of it"):
        Guard(handlers={"h": SyncHandler})  # type: ignore[dict-item]


class TestWebSockets:
    """A handler's Response is the answer of a handshake, and the end of a connection."""

    @pytest.fixture
    def rooms(self) -> TestClient:
        app = FastAPI()

        class WebSocketHandler:
            async def handle(self, connection: WebSocket, exc: Exception) -> Response | None:
                return None if isinstance(exc, LookupError) else JSONResponse({"blocked": str(exc)}, int(str(exc)))

        guard = Guard(handlers={"rooms": WebSocketHandler()})

        @app.websocket("/{when}/{error}")
        @guard.protect("rooms")
        async def room(websocket: WebSocket, when: str, error: str) -> None:
            if when == "after":
                await websocket.accept()
            raise (LookupError if error == "lookup" else ValueError)(error)

        return TestClient(app)

    def test_a_handshake_is_refused_with_the_response(self, rooms: TestClient) -> None:
        with pytest.raises(WebSocketDenialResponse) as refused, rooms.websocket_connect("/before/403"):
            pass
        assert refused.value.status_code == 403

    @pytest.mark.parametrize(("status", "code"), [(403, 1008), (500, 1011)])
    def test_an_accepted_connection_is_closed(self, rooms: TestClient, status: int, code: int) -> None:
        with rooms.websocket_connect(f"/after/{status}") as connection, pytest.raises(WebSocketDisconnect) as closed:
            connection.receive_text()
        assert closed.value.code == code

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_an_exception_without_an_answer_is_raised_again(self, rooms: TestClient, when: str) -> None:
        with pytest.raises(LookupError), rooms.websocket_connect(f"/{when}/lookup") as connection:
            connection.receive_text()

    def test_a_server_that_knows_no_denial_gets_a_close(self) -> None:
        sent: list[Any] = []

        async def run() -> None:
            async def receive() -> Any:
                return {"type": "websocket.connect"}

            async def send(message: Any) -> None:
                sent.append(message)

            scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b""}

            @Guard(handlers={"x": AgentSecurityEventHandlerOfSockets()}).protect("x")
            async def room(websocket: WebSocket) -> None:
                raise ValueError("no")

            await room(WebSocket(scope, receive, send))

        asyncio.run(run())
        assert [message["type"] for message in sent] == ["websocket.close"]


class AgentSecurityEventHandlerOfSockets:
    async def handle(self, connection: WebSocket, exc: Exception) -> Response:
        return JSONResponse({}, 403)
