"""A failed login makes one event, however the application answers it; what is no failed login makes none."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPBasic, HTTPBasicCredentials, OAuth2PasswordRequestForm
from fastapi.testclient import TestClient
from support.recording import Recording, recording

from opentelemetry_guard import report_login
from opentelemetry_guard.instrumentation import http as fastapi_apps
from opentelemetry_guard.instrumentation.http.logins import LONGEST_USER
from opentelemetry_guard.settings.instrumentation import GuardOptions

FORM = {"username": "ann@shop.example", "password": "wrong"}
FAILED = "authentication_failed"


@pytest.fixture
def recorded() -> Iterator[Recording]:
    with recording() as built:
        fastapi_apps.install(GuardOptions(), built.pipeline.emitter)
        yield built
        fastapi_apps.uninstall()


def quiet() -> FastAPI:
    return FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})


def tutorial() -> FastAPI:
    """What FastAPI's tutorial on OAuth2 has its readers write."""
    app = quiet()

    @app.post("/token")
    async def login(form_data: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, str]:
        if form_data.password != "secret":
            raise HTTPException(status_code=400, detail="Incorrect username or password")
        return {"access_token": form_data.username, "token_type": "bearer"}

    return app


def users() -> FastAPI:
    """An application of fastapi-users, its users in memory."""
    fastapi_users = pytest.importorskip("fastapi_users", reason="fastapi-users is not installed")
    from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
    from fastapi_users.db import BaseUserDatabase

    class Users(BaseUserDatabase):  # type: ignore[type-arg,misc]
        async def get_by_email(self, email: str) -> None:
            return None

    class Manager(fastapi_users.UUIDIDMixin, fastapi_users.BaseUserManager):  # type: ignore[name-defined,misc]
        reset_password_token_secret = verification_token_secret = "s" * 32

    secret = "s" * 32
    backend = AuthenticationBackend(
        name="jwt",
        transport=BearerTransport(tokenUrl="auth/jwt/login"),
        get_strategy=lambda: JWTStrategy(secret=secret, lifetime_seconds=60),
    )
    with_users = fastapi_users.FastAPIUsers[Any, uuid.UUID](lambda: Manager(Users()), [backend])
    app = quiet()
    app.include_router(with_users.get_auth_router(backend), prefix="/auth/jwt")
    return app


def starlette_authentication() -> Any:
    """A form that Starlette's own authentication looks at."""
    from starlette.applications import Starlette
    from starlette.authentication import AuthenticationBackend, AuthenticationError
    from starlette.middleware import Middleware
    from starlette.middleware.authentication import AuthenticationMiddleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    class Form(AuthenticationBackend):
        async def authenticate(self, conn: Any) -> None:
            if conn.url.path == "/login":
                raise AuthenticationError("Invalid credentials")

    async def login(request: Request) -> PlainTextResponse:
        return PlainTextResponse("welcome")

    return Starlette(
        routes=[Route("/login", login, methods=["POST"])],
        middleware=[Middleware(AuthenticationMiddleware, backend=Form())],
    )


@pytest.mark.parametrize(
    ("build", "path"),
    [(tutorial, "/token"), (users, "/auth/jwt/login"), (starlette_authentication, "/login")],
    ids=["fastapi's tutorial", "fastapi-users", "starlette's authentication"],
)
def test_a_wrong_password_that_is_answered_with_400_is_one_failed_login(
    recorded: Recording, build: Any, path: str
) -> None:
    assert TestClient(build()).post(path, data=FORM).status_code == 400
    (event,) = recorded.events()
    assert (event["event_type"], event["endpoint"], event["status_code"]) == (FAILED, path, 400)
    assert event["metadata"]["rule"] == "logins"


@pytest.mark.parametrize("status", [401, 403, 422])
def test_a_login_fails_by_other_statuses_too(recorded: Recording, status: int) -> None:
    app = quiet()

    @app.post("/v1/users/sign-in")
    async def enter() -> None:
        raise HTTPException(status)

    TestClient(app).post("/v1/users/sign-in")
    assert recorded.types() == [FAILED]


def test_a_password_that_basic_refuses_is_a_failed_login_and_its_first_round_is_none(recorded: Recording) -> None:
    app = quiet()

    @app.get("/private")
    async def private(given: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> None:
        raise HTTPException(401, headers={"WWW-Authenticate": "Basic"})

    client = TestClient(app)
    assert [client.get("/private").status_code for _ in range(3)] == [401] * 3
    assert recorded.types() == []
    wrong = base64.b64encode(b"ann:wrong").decode()
    assert client.get("/private", headers={"Authorization": f"Basic {wrong}"}).status_code == 401
    (event,) = recorded.events()
    assert (event["event_type"], event["metadata"]["refusals"]) == (FAILED, 3)


class TestTokens:
    @staticmethod
    def application() -> FastAPI:
        app = quiet()

        @app.get("/api/feed")
        async def feed() -> None:
            raise HTTPException(401)

        return app

    def test_a_page_that_polls_with_an_expired_token_makes_no_event(self, recorded: Recording) -> None:
        client = TestClient(self.application())
        for _ in range(100):
            client.get("/api/feed", headers={"Authorization": "Bearer expired"})
            client.get("/api/feed")
        assert recorded.types() == []

    @pytest.mark.parametrize("where", ["header", "api_key", "apikey", "Access-Token"])
    def test_who_tries_one_token_after_the_other_guesses(self, recorded: Recording, where: str) -> None:
        client = TestClient(self.application())
        for number in range(12):
            if where == "header":
                client.get("/api/feed", headers={"X-API-Key": f"guess-{number}"})
            else:
                client.get("/api/feed", params={"page": "2", where: f"guess-{number}"})
        told = [event["metadata"] for event in recorded.events() if event["event_type"] == FAILED]
        assert [event.get("refusals") for event in told] == [9], "the others are folded"

    def test_many_behind_one_address_whose_tokens_expire_make_no_event(self, recorded: Recording) -> None:
        app = self.application()

        @app.get("/api/news")
        async def news() -> None: ...

        client = TestClient(app)
        for number in range(40):
            for _ in range(6):
                client.get("/api/news")
            client.get("/api/feed", headers={"Authorization": f"Bearer {number}"})
        assert recorded.types() == []


class TestReports:
    """What the application itself says of a login."""

    @pytest.mark.parametrize("asynchronous", [True, False])
    def test_a_200_whose_body_says_no(self, recorded: Recording, asynchronous: bool) -> None:
        app = quiet()

        def say(user: str) -> dict[str, bool]:
            report_login(success=user == "ann", user=user)
            return {"ok": user == "ann"}

        async def say_asynchronously(user: str) -> dict[str, bool]:
            return say(user)

        app.post("/enter/{user}")(say_asynchronously if asynchronous else say)
        client = TestClient(app)
        assert client.post("/enter/ann").status_code == 200
        assert recorded.types() == []
        assert client.post("/enter/eve").status_code == 200
        (event,) = recorded.events()
        assert (event["event_type"], event["status_code"], event["action_taken"]) == (FAILED, 200, "logged")
        assert event["metadata"]["user"] == "eve"

    def test_it_and_the_status_make_one_event(self, recorded: Recording) -> None:
        app = quiet()

        @app.post("/login")
        async def login() -> None:
            report_login(success=False, user="eve")
            raise HTTPException(401)

        TestClient(app).post("/login")
        assert recorded.types() == [FAILED]

    def test_a_login_that_succeeds_is_no_failure_whatever_its_status(self, recorded: Recording) -> None:
        app = quiet()

        @app.post("/login")
        async def login() -> None:
            report_login(success=True, user="ann")
            raise HTTPException(403, "the second factor, please")

        TestClient(app).post("/login")
        assert recorded.types() == []

    def test_many_addresses_that_try_one_user_are_found_where_nobody_sets_a_user_id(self, recorded: Recording) -> None:
        app = quiet()

        @app.post("/enter")
        async def enter() -> None:
            report_login(success=False, user="root")

        for number in range(6):
            TestClient(app, client=(f"203.0.113.{number}", 5)).post("/enter")
        violation = next(event for event in recorded.events() if event["event_type"] == "behavioral_violation")
        assert violation["metadata"]["pattern"] == "distributed_brute_force"
        assert violation["metadata"]["user"] == "root"

    def test_outside_of_a_request_it_is_told_and_counted_with_its_address(self, recorded: Recording) -> None:
        report_login(success=True, user="ann", address="203.0.113.9")
        for number in range(8):
            report_login(success=False, user=f"user-{number}", address="203.0.113.9")
        events = recorded.events()
        assert [event["event_type"] for event in events] == [FAILED] * 8 + ["behavioral_violation"]
        assert {event["ip_address"] for event in events} == {"203.0.113.9"}
        assert events[-1]["metadata"]["pattern"] == "credential_stuffing"

    @pytest.mark.parametrize("inside", [True, False])
    def test_arguments_of_other_types_are_written_as_text_or_left_out_and_never_raise(
        self, recorded: Recording, inside: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Unwritable:
            def __str__(self) -> str:
                raise LookupError("the session is closed")

        given: list[Any] = [17, b"ann", "", Unwritable(), "x" * 999, "\ud800"]
        app = quiet()

        @app.post("/enter/{number}")
        async def enter(number: int) -> None:
            report_login(success=False, user=given[number], address=IPv4Address("203.0.113.9"))  # type: ignore[arg-type]

        for number in range(len(given)):
            if inside:
                TestClient(app).post(f"/enter/{number}")
            else:
                asyncio.run(enter(number))
        failed = [event for event in recorded.events() if event["event_type"] == FAILED]
        assert {event["ip_address"] for event in failed} == {"203.0.113.9"}
        users = [event["metadata"].get("user") for event in failed]
        assert users == ["17", "ann", None, None, "x" * LONGEST_USER, "\\ud800"]
        (complaint,) = [record.message for record in caplog.records if "report_login" in record.message]
        assert complaint.endswith("a Unwritable that can't be written as text (LookupError); pass a name")

    def test_a_text_is_no_success(self, recorded: Recording, caplog: pytest.LogCaptureFixture) -> None:
        app = quiet()

        @app.post("/enter")
        async def enter() -> None:
            report_login(success="false", user="ann")  # type: ignore[arg-type]

        for _ in range(3):
            assert TestClient(app).post("/enter").status_code == 200
        assert recorded.types() == []
        (complaint,) = [record.message for record in caplog.records if "report_login" in record.message]
        assert complaint == "report_login(success='false') is ignored: success must be True or False"

    def test_without_an_instrumentation_a_failure_is_an_event_and_nothing_raises(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[dict[str, object]] = []
        monkeypatch.setattr("opentelemetry_guard.instrumentation.http.logins.emit_event", told.append)
        report_login(success=True, user="ann")
        report_login(success=False, user=None)
        (event,) = told
        assert (event["event_type"], event["ip_address"]) == (FAILED, "")


def test_what_is_a_login_can_be_changed_and_switched_off() -> None:
    app = quiet()

    @app.post("/enter")
    async def enter() -> None:
        raise HTTPException(422)

    @app.get("/feed")
    async def feed() -> None:
        raise HTTPException(401)

    def told(rules: dict[str, object]) -> list[str]:
        with recording() as built:
            fastapi_apps.install(GuardOptions(http_rules=rules), built.pipeline.emitter)
            try:
                TestClient(app).post("/enter")
                TestClient(app).get("/feed")
            finally:
                fastapi_apps.uninstall()
            return built.types()

    assert told({}) == []
    assert told({"logins": {"names": {"add": ["enter"]}}}) == [FAILED]
    assert told({"logins": None}) == [FAILED], "the table of statuses alone"
