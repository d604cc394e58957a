"""How bodies are compressed."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opentelemetry_guard.delivery import compression


@pytest.fixture(params=["isal", "zlib"])
def gzipped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], bytes]:
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    else:
        pytest.importorskip("isal")  # there is none for every machine
    return compression._fastest()


def test_a_body_is_one_member_that_tells_its_size(gzipped: Callable[[bytes], bytes]) -> None:
    body = b'{"events":[' + b'{"reason":"on a list"},' * 10_000 + b"null]}"
    packed = gzipped(body)
    member = zlib.decompressobj(wbits=31)
    assert member.decompress(packed) == body
    assert member.eof
    assert not member.unused_data
    assert int.from_bytes(packed[-4:], "little") == len(body)
    assert len(packed) < len(body) / 20


@given(st.binary(max_size=100_000))
@example(b"")
def test_what_is_packed_is_unpacked_as_it_was(body: bytes) -> None:
    assert gzip.decompress(compression.gzipped(body)) == body


def test_the_same_body_is_packed_to_the_same_bytes(gzipped: Callable[[bytes], bytes]) -> None:
    packed = {gzipped(b"x" * 5_000) for _ in range(3)}
    assert len({each[:4] + each[8:] for each in packed}) == 1, "but for the time that zlib's header has"


def test_where_there_is_no_isal_zlib_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    assert compression._fastest() is compression._by_zlib
