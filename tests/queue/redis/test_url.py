"""Redis URLs, read and written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opentelemetry_guard.queue.redis.url import TLS_OPTIONS, RedisAddress, parse_redis_url

_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
_secrets = st.none() | _texts
_hosts = st.tuples(st.sampled_from(["h", "redis.example", "::1", "10.0.0.1"]), st.integers(1, 65535))
_tls = st.none() | st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(TLS_OPTIONS[:3], _texts),
        "ssl_cert_reqs": st.sampled_from(["none", "optional", "required"]),
        "ssl_check_hostname": st.booleans(),
    },
)


@st.composite
def addresses(draw: st.DrawFn) -> RedisAddress:
    topology = draw(st.sampled_from(["single", "sentinel", "cluster"]))
    sentinel = topology == "sentinel"
    return RedisAddress(
        topology,
        tuple(draw(st.lists(_hosts, min_size=1, max_size=1 if topology == "single" else 3))),
        draw(_secrets),
        draw(_secrets),
        0 if topology == "cluster" else draw(st.integers(0, 99)),
        draw(_texts) if sentinel else "",
        draw(_tls),
        draw(_secrets) if sentinel else None,
        draw(_secrets) if sentinel else None,
    )


@given(addresses())
def test_what_is_written_is_read_again(address: RedisAddress) -> None:
    assert parse_redis_url(address.url) == address
