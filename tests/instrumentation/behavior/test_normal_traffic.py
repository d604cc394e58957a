"""Nobody is accused for nothing: an hour of ordinary traffic, ten thousand requests, at the pace of its clocks.

A false positive is an event that says of a client that it attacks:
`suspicious_request`, `behavioral_violation`, `rate_limited`. A login that
failed once is `authentication_failed` by definition, and a page that was
refused is `access_denied`: each of these is a fact, of which there have to be
exactly as many as there were such answers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from support.asgi import fetch
from support.normal_traffic import HOUR, REQUESTS, normal_traffic
from support.recording import recording
from support.unguarded_app import app

from opentelemetry_guard.instrumentation.behavior.analyzer import BehaviorAnalyzer
from opentelemetry_guard.instrumentation.http import following as request_following
from opentelemetry_guard.instrumentation.http.judging import AnswerJudge
from opentelemetry_guard.settings.instrumentation import GuardOptions


async def followed(scope: Any, receive: Any, send: Any) -> None:
    await request_following.follow(app, scope, receive, send, guarded=False)


@pytest.mark.slow
def test_ten_thousand_ordinary_requests_make_no_accusation() -> None:
    traffic = normal_traffic()
    now = [0.0]
    answers: Counter[int] = Counter()

    async def drive() -> None:
        for sent in traffic:
            now[0] = sent.at
            headers = {"user-agent": sent.agent} | ({"authorization": sent.authorization} if sent.authorization else {})
            status = await fetch(
                followed, sent.path, method=sent.method, address=sent.address, headers=headers, body=sent.body
            )
            assert status == sent.expected, sent
            answers[status] += 1

    with recording() as recorded:
        judge = AnswerJudge(GuardOptions(), recorded.pipeline.emitter, BehaviorAnalyzer(), lambda: now[0])
        request_following.observe(judge)
        try:
            asyncio.run(drive())
        finally:
            request_following.ignore(judge)
        told = Counter(recorded.types())
        accusations = [
            event
            for event in recorded.events()
            if event["event_type"] not in ("authentication_failed", "access_denied")
        ]

    assert accusations == []
    assert answers.total() == REQUESTS
    assert now[0] <= HOUR
    assert min(answers[status] for status in (200, 401, 403, 404, 422)) > 10, "it is traffic of every kind"
    mistyped = sum(sent.path == "/login" and sent.expected == 401 for sent in normal_traffic())
    assert 0 < mistyped < answers[401], "a token that has expired is no wrong password"
    assert told == {"authentication_failed": mistyped, "access_denied": answers[403]}
