import io

import numpy as np
import pytest
import zstandard
from aggregator.schemas.graphs import blocks
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.binary(max_size=50)), st.sampled_from([3, 4, 8]))
def test_blocks_are_found_by_walking_and_by_address(payloads: list[bytes], int_size: int) -> None:
    data = b"".join(blocks.frame(payload, int_size) for payload in payloads)
    places = list(blocks.walk(data, int_size))
    assert [blocks.payload_at(data, offset, size, int_size) for offset, size in places] == payloads
    sizes = np.array([size for _, size in places], dtype=np.int64)
    assert blocks.offsets(sizes).tolist() == [offset for offset, _ in places]


def test_a_prefix_is_big_endian_and_not_counted() -> None:
    assert blocks.frame(b"abc", 4) == b"\0\0\0\3abc"


@pytest.mark.parametrize("cut", range(1, 11))
def test_a_block_that_is_cut_off_is_refused(cut: int) -> None:
    data = blocks.frame(b"abc", 8)[:-cut]
    with pytest.raises(ValueError, match="cut off"):
        list(blocks.walk(data, 8))
    with pytest.raises(ValueError, match="cut off"):
        blocks.payload_at(data, 0, 11, 8)


def test_a_prefix_that_disagrees_with_the_address_is_refused() -> None:
    with pytest.raises(ValueError, match="states 3 bytes"):
        blocks.payload_at(blocks.frame(b"abc", 8) + b"x", 0, 12, 8)


@pytest.fixture(scope="module")
def dictionary() -> bytes:
    samples = [
        f'{{"name": "sample {i}", "value": {i * i}, "unit": "metre"}}'.encode() * 3 for i in range(500)
    ]
    trained = blocks.train_dictionary(samples, 2048)
    assert trained[:4] == bytes.fromhex("37a430ec")
    return trained


def test_a_codec_reads_what_it_wrote(dictionary: bytes) -> None:
    document = b'{"name": "sample 7", "value": 49, "unit": "metre"}'
    plain, with_dictionary = blocks.Codec(b"", 3), blocks.Codec(dictionary, 3)
    small = with_dictionary.compress(document)
    assert len(small) < len(plain.compress(document))
    assert (
        zstandard.get_frame_parameters(small).dict_id == zstandard.ZstdCompressionDict(dictionary).dict_id()
    )
    assert zstandard.frame_content_size(small) == len(document)
    assert with_dictionary.decompress(small) == document
    # A frame made without the dictionary can stand in a file with one.
    assert with_dictionary.decompress(plain.compress(document)) == document
    with pytest.raises(ValueError, match="damaged"):
        plain.decompress(small)


def test_a_frame_without_its_size_is_refused() -> None:
    stream = zstandard.ZstdCompressor().compressobj()
    frame = stream.compress(b"x" * 100) + stream.flush()
    with pytest.raises(ValueError, match="damaged"):
        blocks.Codec(b"", 3).decompress(frame)


def test_a_stream_is_the_whole_document_in_pieces() -> None:
    codec = blocks.Codec(b"", 3)
    document = bytes(range(256)) * 400
    pieces = list(codec.stream(io.BytesIO(codec.compress(document)), chunk_size=1000))
    assert b"".join(pieces) == document
    assert max(map(len, pieces)) <= 1000
    with pytest.raises(ValueError, match="damaged"):
        list(codec.stream(io.BytesIO(b"no frame at all")))


@pytest.mark.parametrize(
    ("samples", "size"), [([], 1000), ([b"a"] * 9, 1000), ([b""] * 100, 1000), ([b"abc"] * 100, 0)]
)
def test_training_that_fails_gives_no_dictionary(samples: list[bytes], size: int) -> None:
    assert blocks.train_dictionary(samples, size) == b""
