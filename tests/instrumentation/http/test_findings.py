"""What an answer means for security, and how the rules are changed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.instrumentation.http.bursts import MOST_ALIKE, NotFoundBursts
from opentelemetry_guard.instrumentation.http.findings import AnsweredRequest, Finding, HttpJudge, climbs
from opentelemetry_guard.settings.http_rules import (
    SCANNER_PATHS,
    SCANNER_USER_AGENTS,
    STATUSES,
    Burst,
    HttpRules,
)
from opentelemetry_guard.settings.instrumentation import GuardOptions


def answered(path: str = "/items/7", status: int = 200, **more: Any) -> AnsweredRequest:
    facts: dict[str, Any] = {
        **{"address": "203.0.113.7", "user": None, "method": "GET", "path": path, "route": None},
        **{"status_code": status, "duration": 0.01, "user_agent": "Mozilla/5.0 Firefox/140.0"},
    }
    return AnsweredRequest(**{**facts, **more})


def judged(request: AnsweredRequest, changes: dict[str, object] | None = None) -> Finding | None:
    return HttpJudge(HttpRules.resolve(changes)).judge(request)


def rule(request: AnsweredRequest, changes: dict[str, object] | None = None) -> str | None:
    finding = judged(request, changes)
    return None if finding is None else finding.rule


class TestStatuses:
    @pytest.mark.parametrize(("status", "event_type"), STATUSES.items())
    def test_a_status_of_the_table_makes_its_event(self, status: int, event_type: str) -> None:
        finding = judged(answered(status=status), {"logins": None})
        assert finding is not None
        assert (finding.event_type, finding.rule) == (event_type, "statuses")

    @pytest.mark.parametrize("status", [101, 200, 204, 302, 304, 400, 404, 405, 409, 422, 500, 503])
    def test_every_other_status_makes_none(self, status: int) -> None:
        assert judged(answered(status=status)) is None

    def test_a_request_that_has_its_event_makes_no_other(self) -> None:
        for status in (*STATUSES, 404):
            assert judged(answered("/.env", status, user_agent="sqlmap/1.9", reported=True)) is None


class TestTraversal:
    @pytest.mark.parametrize(
        "raw",
        [
            "/static/../../etc/passwd",
            "/static/..%2f..%2fetc/passwd",
            "/static/%2e%2e/%2e%2e/etc/hosts",
            "/static/%252e%252e%252fsecret",
            "/static/%25252e%25252e/secret",
            "/static/..%5c..%5cwindows/win.ini",
            "/static/..;/manager",
            "/static/%c0%ae%c0%ae/secret",
            "/static/..%c0%afsecret",
            "/..",
        ],
    )
    @pytest.mark.parametrize("status", [200, 400, 404])
    def test_a_climbing_path_is_suspicious_in_any_encoding_and_whatever_the_answer(self, raw: str, status: int) -> None:
        assert rule(answered(unquote(raw), status, raw_path=raw)) == "path_traversal"

    @pytest.mark.parametrize(
        "path", ["/a..b/c", "/v1...2", "/...", "/.hidden/x", "/100%", "/caf\ufffd", "/a/.../b", "/what?", "/..a"]
    )
    def test_dots_that_climb_nowhere_are_not(self, path: str) -> None:
        assert not climbs(path, quote(path))

    @given(st.lists(st.text("abc._-%25", min_size=1).filter(lambda name: name != ".."), max_size=5))
    def test_a_path_without_dots_between_slashes_never_climbs(self, segments: list[str]) -> None:
        assert not climbs("/" + "/".join(segment.replace("%", "") for segment in segments))

    @given(st.integers(1, 3), st.sampled_from(["../", "..\\", "..;/"]))
    def test_no_number_of_encodings_hides_it(self, times: int, climbing: str) -> None:
        raw = climbing
        for _ in range(times):
            raw = quote(raw, safe="").replace(".", "%2e")
        assert climbs("/x/" + raw, "/x/" + raw)


class TestScannerPaths:
    @pytest.mark.parametrize("path", [path.rstrip("*") for path in SCANNER_PATHS])
    def test_each_counts_where_nothing_is_there_at_any_depth_and_in_any_case(self, path: str) -> None:
        for request in (path, f"/blog{path}", path.upper()):
            assert rule(answered(request, 404)) == "scanner_paths"

    @pytest.mark.parametrize("path", ["/.env.production", "/.git/config", "/wp-admin/setup.php", "/phpMyAdmin-5/x"])
    def test_what_lies_behind_one_counts_too(self, path: str) -> None:
        assert rule(answered(path, 404)) == "scanner_paths"

    @pytest.mark.parametrize("path", ["/actuators/3", "/wp-login.phps", "/users/env", "/about/cgi-bin-history", "/git"])
    def test_what_only_looks_like_one_does_not(self, path: str) -> None:
        assert rule(answered(path, 404)) is None

    def test_an_application_that_has_the_page_is_not_scanned(self) -> None:
        assert rule(answered("/wp-login.php", 200)) is None
        assert rule(answered("/wp-login.php", 403, route="/wp-login.php")) == "statuses"
        assert rule(answered("/wp-login.php", 422, route="/wp-login.php")) is None

    def test_a_catch_all_route_that_finds_nothing_does_not_hide_a_scan(self) -> None:
        assert rule(answered("/.env", 404, route="/{path}")) == "scanner_paths"

    def test_a_middleware_that_refuses_one_does_not_hide_it(self) -> None:
        assert rule(answered("/.env", 403)) == "scanner_paths"


class TestOthers:
    @pytest.mark.parametrize("agent", SCANNER_USER_AGENTS)
    def test_a_scanners_name_counts_anywhere_in_the_user_agent(self, agent: str) -> None:
        finding = judged(answered(user_agent=f"Mozilla/5.0 ({agent.title()}/1.2)"))
        assert finding is not None
        assert (finding.rule, finding.evidence) == ("scanner_user_agents", {"matched": agent})

    @pytest.mark.parametrize(
        "agent", ["", "python-httpx/0.28", "curl/8.9", "Googlebot/2.1", "Go-http-client/2.0", "okhttp/5"]
    )
    def test_libraries_and_search_engines_are_no_scanners(self, agent: str) -> None:
        assert judged(answered(user_agent=agent)) is None

    def test_a_malformed_path_that_is_refused_is_suspicious(self) -> None:
        assert rule(answered("/a\x00b", 404, raw_path="/a%00b")) == "malformed"
        assert rule(answered("/a%zz", 400, raw_path="/a%zz")) == "malformed"
        assert rule(answered("/a\ufffd", 400, raw_path="/a%ff")) == "malformed"

    def test_an_old_link_in_another_encoding_is_not(self) -> None:
        assert rule(answered("/caf\ufffd", 404, raw_path="/caf%E9")) is None
        assert rule(answered("/100%", 400, raw_path="/100%25")) is None


def missing(path: str, **more: Any) -> AnsweredRequest:
    return answered(path, 404, **more)


def word(number: float) -> str:
    """Return a name without digits: paths that differ in a number are of one kind."""
    return str(int(number)).translate(str.maketrans("0123456789", "abcdefghij"))


class TestBursts:
    def test_the_nth_404_within_the_window_makes_one_finding(self) -> None:
        bursts = NotFoundBursts(Burst(count=3, seconds=10, cool_down=60))
        found = [bursts.observe(missing(f"/{word(now)}"), now) for now in (0.0, 1.0, 2.0, 3.0, 4.0)]
        assert [finding is not None for finding in found] == [False, False, True, False, False]
        assert found[2] is not None
        assert found[2].evidence == {"count": 3, "distinct_paths": 3, "window": 10, "not_told": 0}

    def test_asking_again_for_what_is_missing_takes_longer_to_be_a_burst(self) -> None:
        bursts = NotFoundBursts(Burst(count=3, requests=5))
        found = [bursts.observe(missing("/feed"), 0) for _ in range(5)]
        assert [finding is not None for finding in found] == [False, False, False, False, True]

    @pytest.mark.parametrize(
        "paths",
        [
            [f"/assets/chunk-{number}.{ending}" for number in range(9) for ending in ("js", "css", "woff2")],
            [f"/items/{number}" for number in range(9)],
        ],
    )
    def test_an_old_pages_files_and_the_missing_items_of_one_route_are_one_resource(self, paths: list[str]) -> None:
        bursts = NotFoundBursts(Burst(count=3, requests=10))
        route = "/items/{number}" if "items" in paths[0] else "/{path}"
        assert not any(bursts.observe(missing(path, route=route), 0) for path in paths)

    def test_404s_that_are_far_apart_make_none(self) -> None:
        bursts = NotFoundBursts(Burst(count=3, seconds=10))
        assert not any(bursts.observe(missing(f"/{word(now)}"), now) for now in range(0, 1000, 6))

    def test_after_the_cool_down_the_next_one_tells_what_was_not_told(self) -> None:
        bursts = NotFoundBursts(Burst(count=3, seconds=10, cool_down=60))
        found = [finding for now in range(100) if (finding := bursts.observe(missing(f"/{word(now)}"), now))]
        assert [finding.evidence["not_told"] for finding in found] == [0, 59]

    def test_addresses_are_counted_apart(self) -> None:
        bursts = NotFoundBursts(Burst(count=3, seconds=10))
        assert not any(
            bursts.observe(missing(f"/{word(number)}", address=address), 0) for number, address in enumerate("abcabc")
        )

    def test_clients_that_miss_the_same_things_are_one_burst_and_many_of_them_none(self) -> None:
        bursts = NotFoundBursts(Burst(count=3, cool_down=60, alike=4))

        def told(address: str, at: float, paths: Sequence[str] = "abc") -> list[object]:
            found = [bursts.observe(missing(f"/v1/{path}", address=address), at) for path in paths]
            return [each.evidence.get("alike", 0) for each in found if each is not None]

        assert told("first", 0) == [0]
        assert told("second", 1) == [], "it is told with the next one after the cool-down"
        assert told("scanner", 2, "xyz") == [0], "who misses other things has a burst of its own"
        assert told("third", 70, "abg") == [2]
        assert told("fourth", 140) == [], "by now it is the application's mistake"
        assert told("first", 300) == []
        assert told("fifth", 1000, "abq") == []
        assert told("second", 1001, "pqr") == [0], "a client with a burst about other things"
        assert told("sixth", 5000) == [0], "an hour later it is forgotten"

    def test_who_finds_most_of_what_it_asks_for_makes_none(self) -> None:
        requests = 0.0
        bursts = NotFoundBursts(Burst(count=3), requests=lambda address: requests)

        def told(paths: str) -> bool:
            return any(bursts.observe(missing(f"/{path}"), 0) for path in paths)

        requests = 20.0
        assert not told("abcdef")
        requests = 12.0
        assert told("ghi")

    def test_of_what_bursts_were_about_the_latest_are_remembered(self) -> None:
        bursts = NotFoundBursts(Burst(count=2))
        for number in range(10 * MOST_ALIKE):
            for each in range(2):
                bursts.observe(missing(f"/{word(2 * number + each)}", address=str(number)), number)
        assert len(bursts._told) == MOST_ALIKE

    def test_without_an_address_nothing_is_counted(self) -> None:
        bursts = NotFoundBursts(Burst(count=2))
        assert not any(bursts.observe(missing(f"/{word(number)}", address=""), 0) for number in range(10))

    def test_the_addresses_of_one_ipv6_network_are_one_client(self) -> None:
        def told(addresses: list[str], prefix: int = 64) -> bool:
            bursts = NotFoundBursts(Burst(count=3), prefix)
            return any(
                bursts.observe(answered(f"/{word(number)}", 404, address=address), 0.0)
                for number, address in enumerate(addresses)
            )

        neighbours = ["2001:db8::1", "2001:db8::2", "2001:db8::3"]
        assert told(neighbours)
        assert not told(neighbours, 128)
        assert told(["::ffff:192.0.2.1", "192.0.2.1", "::ffff:c000:201"])
        assert not told(["2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1"])

    def test_the_memory_is_bounded_and_the_quietest_address_is_forgotten(self) -> None:
        bursts = NotFoundBursts(Burst(count=2, addresses=100))
        for number in range(10_000):
            bursts.observe(missing(f"/{word(number)}", address="busy"), number / 1000)
            bursts.observe(missing("/x", address=str(number)), number / 1000)
        assert len(bursts._seen) == 100
        assert "busy" in bursts._seen
        assert max(len(run.places) for run in bursts._seen.values()) == 2
        assert sum(sys.getsizeof(run.places) for run in bursts._seen.values()) < 100 * 1024

    @pytest.mark.parametrize(
        "path", ["/favicon.ico", "/favicon-32x32.png", "/apple-touch-icon-120x120.png", "/robots.txt", "/sitemap.xml"]
    )
    def test_what_browsers_ask_every_site_for_belongs_to_no_burst(self, path: str) -> None:
        judge = HttpJudge(HttpRules())
        assert not judge.is_unexpected_not_found(answered(path, 404))
        assert judge.is_unexpected_not_found(answered("/other", 404))
        assert not judge.is_unexpected_not_found(answered("/other", 200))


class TestChanges:
    @pytest.mark.parametrize(
        ("changes", "request_", "expected"),
        [
            ({"statuses": {"403": None}}, answered(status=403), None),
            ({"statuses": {"418": "content_filtered"}}, answered(status=418), "content_filtered"),
            ({"statuses": {"418": "content_filtered"}}, answered(status=403), "access_denied"),
            (
                {"logins": {"names": {"add": ["Enter"]}}},
                answered("/enter", 422, method="POST"),
                "authentication_failed",
            ),
            ({"logins": {"statuses": [401]}}, answered("/login", 422, method="POST"), None),
            ({"statuses": {"401": "who_are_you"}}, answered(status=401), "who_are_you"),
            ({"statuses": False}, answered(status=401), None),
            ({"path_traversal": False}, answered("/../x"), None),
            ({"scanner_paths": None}, answered("/.env", 404), None),
            ({"scanner_paths": {"remove": ["/.env*"]}}, answered("/.env", 404), None),
            ({"scanner_paths": {"add": ["/Secret*"]}}, answered("/secrets", 404), "suspicious_request"),
            ({"scanner_paths": ["/only"]}, answered("/.env", 404), None),
            ({"scanner_user_agents": {"add": ["EvilBot"]}}, answered(user_agent="evilbot"), "suspicious_request"),
            ({"malformed": False}, answered("/a\x00", 404), None),
            ({"scanner_paths": True}, answered("/.env", 404), "suspicious_request"),
        ],
    )
    def test_a_change_is_obeyed(
        self, changes: dict[str, object], request_: AnsweredRequest, expected: str | None
    ) -> None:
        finding = judged(request_, changes)
        assert (finding and finding.event_type) == expected

    def test_a_bursts_numbers_and_switch(self) -> None:
        assert HttpRules.resolve({"not_found_burst": {"count": 20}}).not_found_burst == Burst(count=20)
        assert HttpRules.resolve({"not_found_burst": None}).not_found_burst is None

    def test_threat_levels(self) -> None:
        rules = HttpRules.resolve({"threat_levels": {"login_from_abroad": 0.2, "rate_limited": 1}})
        assert rules.threat_level(["login_from_abroad"]) == 0.2
        assert rules.threat_level(["login_from_abroad", "rate_limited"]) == 1
        assert rules.threat_level(["unheard_of"]) == 0.5
        assert rules.threat_level([]) == 0

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"status": {}}, "the key 'status', allowed are statuses, "),
            ({"statuses": {"teapot": "x"}}, "http_rules.statuses has the key 'teapot', it must be a whole number"),
            ({"statuses": {"200": "x"}}, "'200', it must be a whole number from 400 to 599"),
            ({"statuses": {"401": 7}}, "http_rules.statuses.401 is 7, it must be an event type, or null"),
            ({"statuses": 401}, "http_rules.statuses is 401, it must be an object such as"),
            ({"path_traversal": "no"}, "http_rules.path_traversal is 'no', it must be true or false"),
            ({"scanner_paths": {"plus": []}}, "http_rules.scanner_paths is"),
            ({"scanner_paths": ["env"]}, "http_rules.scanner_paths has 'env', a path must be text that begins with /"),
            ({"scanner_paths": ["/"]}, "has '/', a path must be text that begins with / and names something"),
            ({"scanner_paths": {"add": "/x"}}, "http_rules.scanner_paths.add is '/x', it must be a list"),
            ({"scanner_paths": {"remove": ["/x"]}}, "remove has '/x', which is not in the default list"),
            ({"scanner_user_agents": [""]}, "a user agent must be text that isn't empty"),
            (
                {"not_found_burst": {"number": 3}},
                "the key 'number', allowed are count, requests, seconds",
            ),
            ({"not_found_burst": {"count": 1}}, "http_rules.not_found_burst.count is 1, it must be a whole number"),
            ({"not_found_burst": {"count": 2.5}}, "count is 2.5, it must be a whole number from 2 to 1000"),
            ({"not_found_burst": 10}, "http_rules.not_found_burst is 10, it must be an object such as"),
            ({"threat_levels": {"x": 2}}, "http_rules.threat_levels.x is 2, it must be a number from 0 to 1"),
        ],
    )
    def test_a_change_that_means_nothing_is_refused_with_its_name_and_the_remedy(
        self, changes: dict[str, object], message: str
    ) -> None:
        with pytest.raises(ValueError) as raised:  # noqa: PT011  the message is compared below
            HttpRules.resolve(changes)
        assert message in str(raised.value)

    def test_a_wrong_keyword_is_refused_and_a_wrong_variable_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        with pytest.raises(ValueError, match="http_rules has the key 'nonsense'"):
            GuardOptions.resolve({}, http_rules={"nonsense": 1})
        options = GuardOptions.resolve({"OTEL_PYTHON_GUARD_HTTP_RULES": '{"nonsense_of_a_variable": 1}'})
        assert options.http_rules is None
        assert "nonsense_of_a_variable" in caplog.text

    def test_rules_come_from_a_file(self, tmp_path: Any) -> None:
        file = tmp_path / "rules.json"
        file.write_text('{"statuses": {"401": null}}')
        options = GuardOptions.resolve({"OTEL_PYTHON_GUARD_HTTP_RULES": str(file)})
        assert 401 not in HttpRules.resolve(options.http_rules).statuses
