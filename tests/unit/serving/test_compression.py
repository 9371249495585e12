import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from onceserve_serving.codec import compression
from onceserve_serving.errors import InvalidRequestError

LIMIT = 10_000
CODINGS = sorted(compression.ENCODERS)


def streamed(body: bytes) -> bytes:
    """A zstd frame that does not tell its size."""
    return zstandard.ZstdCompressor(write_content_size=False).compress(body)


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "zstd without size": streamed,
}


@pytest.fixture(params=ENCODERS)
def coded(request: pytest.FixtureRequest) -> tuple[str, Callable[[bytes], bytes]]:
    return request.param.split()[0], ENCODERS[request.param]


@pytest.mark.parametrize("coding", CODINGS)
@given(pieces=st.lists(st.binary(max_size=200), max_size=4))
def test_what_is_compressed_comes_back(coding: str, pieces: list[bytes]) -> None:
    assert compression.decompress(compression.compress(pieces, coding), coding, LIMIT) == b"".join(pieces)


@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_all_up_to_the_limit_is_taken(coded: tuple[str, Callable[[bytes], bytes]], size: int) -> None:
    coding, encode = coded
    assert compression.decompress(encode(b"x" * size), coding, LIMIT) == b"x" * size


def test_a_byte_above_the_limit_is_refused(coded: tuple[str, Callable[[bytes], bytes]]) -> None:
    coding, encode = coded
    with pytest.raises(compression.TooLongError):
        compression.decompress(encode(b"x" * (LIMIT + 1)), coding, LIMIT)


def test_a_bomb_takes_no_more_memory_than_the_limit(coded: tuple[str, Callable[[bytes], bytes]]) -> None:
    coding, encode = coded
    bomb = encode(bytes(100 * 2**20))
    tracemalloc.start()
    try:
        with pytest.raises(compression.TooLongError):
            compression.decompress(bomb, coding, 2**20)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def test_a_body_that_is_cut_or_followed_is_refused(coded: tuple[str, Callable[[bytes], bytes]]) -> None:
    coding, encode = coded
    whole = encode(bytes(range(256)) * 8)
    for body in (b"", whole[:-1], whole[: len(whole) // 2], whole + b"x", whole + whole, b"no" + whole):
        with pytest.raises(InvalidRequestError, match=f"the body is not {coding}"):
            compression.decompress(body, coding, LIMIT)


def test_a_zstd_frame_must_not_ask_for_a_large_window() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    coder = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(InvalidRequestError, match="too much memory"):
        compression.decompress(coder.compress(b"x" * 100) + coder.flush(), "zstd", LIMIT)


@pytest.mark.parametrize("coding", sorted(compression.DECODERS))
@given(body=st.binary(max_size=100))
def test_no_bytes_do_harm(coding: str, body: bytes) -> None:
    try:
        assert len(compression.decompress(body, coding, LIMIT)) <= LIMIT
    except InvalidRequestError as error:
        assert str(error)  # noqa: PT017
    except compression.TooLongError:
        pass


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        (b"", "identity"),
        (b"identity", "identity"),
        (b"br", "identity"),
        (b"gzip", "gzip"),
        (b"X-GZIP", "gzip"),
        (b"deflate", "deflate"),
        (b"gzip, deflate", "gzip"),
        (b"gzip, deflate, br, zstd", "zstd"),
        (b"*", "zstd"),
        (b"*;q=0, gzip", "gzip"),
        (b"*;q=0", "identity"),
        (b"zstd;q=0, gzip;q=0.5", "gzip"),
        (b"gzip ; q=0.3 , deflate;q=0.9", "deflate"),
        (b"gzip;q=0.5, identity", "identity"),
        (b"gzip;q=1.0, identity;q=0.5", "gzip"),
        (b"gzip;q=nan", "identity"),
        (b"gzip;q=much", "identity"),
        (b"\xff,;;q=,,", "identity"),
    ],
)
def test_the_best_liked_coding_is_chosen(accepted: bytes, chosen: str) -> None:
    assert compression.choose(accepted) == chosen


def test_only_what_shrinks_is_worth_it() -> None:
    assert compression.pays([b'{"a":', b"0.25,1.5," * 500])
    assert not compression.pays([b"0.25,1.5," * 5])
    assert not compression.pays([b"{}", random.Random(1).randbytes(5_000)])
